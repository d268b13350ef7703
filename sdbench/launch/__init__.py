"""Where a run happens: in containers, on this host or another."""
