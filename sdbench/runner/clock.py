"""The supervisor's clock: for telemetry and elapsed time, never for a latency (that is the worker's)."""

import time


class SupervisorClock:
    """CLOCK_MONOTONIC."""

    def now_s(self) -> float:
        """Return the time (s) since an arbitrary start."""
        return time.monotonic()
