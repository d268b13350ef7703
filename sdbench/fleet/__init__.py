"""One manifest on one machine of each kind of a cluster."""
