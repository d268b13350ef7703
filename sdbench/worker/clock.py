"""The one clock that latencies are read from."""

import time


class MonotonicClock:
    """CLOCK_MONOTONIC through ``time.perf_counter``: about 50 ns a reading, never set back."""

    def now_s(self) -> float:
        """Return the time (s) since an arbitrary start."""
        return time.perf_counter()
