"""What can be proven of a run, what cannot, and what contradicts it."""
