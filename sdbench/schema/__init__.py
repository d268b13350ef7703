"""Frozen models of everything that is stored or read, their versions and migrations."""
