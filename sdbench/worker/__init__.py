"""One launch of one experiment, in a process of its own."""
