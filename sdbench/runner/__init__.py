"""The supervisor: order, launches, timeouts, resume and the device lock. It never imports the worker."""
