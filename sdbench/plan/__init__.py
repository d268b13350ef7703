"""A manifest and a machine in, the experiments to run out."""
