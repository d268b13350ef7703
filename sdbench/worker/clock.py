"""The one clock that latencies are read from."""

import time

from sdbench.backends.base import Clock


class MonotonicClock:
    """CLOCK_MONOTONIC through ``time.perf_counter``: about 50 ns a reading, never set back."""

    def now_s(self) -> float:
        """Return the time (s) since an arbitrary start."""
        return time.perf_counter()


def open_clock(backend: str) -> Clock:
    """Return the clock of a backend's calls: the real one, but for the virtual backend."""
    if backend == "virtual":
        from sdbench.backends.virtual import CLOCK

        return CLOCK
    return MonotonicClock()
