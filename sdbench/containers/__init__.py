"""Runs in container images, on this host or others."""
