"""Whether a run is what it says: what can be proven of it, what cannot, and what contradicts itself."""
