"""sdbench measures Stable Diffusion inference and keeps a record that others can repeat."""

__version__ = "0.1.0"
