"""Where a run is kept: the journal while it continues, the sealed bundle when it has ended, and the device's lock."""
