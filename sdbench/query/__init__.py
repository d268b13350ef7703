"""SQL over many runs."""
