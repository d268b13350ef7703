"""Repeated cheap reads: files that stay open, and columns of one length whatever fails."""

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import NamedTuple

from sdbench.probes.readings import ReadingFailed, as_reading
from sdbench.probes.sysfs import explain_os_error
from sdbench.schema.outcome import Series

# Long enough for the lines that are read; the kernel generates some of these files in full at each read.
_READ_BYTES = 512
_READINGS_FOR_SPREAD = 10
# A second at the telemetry's rate.
_FAILURES_IN_A_ROW_MAX = 10
UNEXPECTED_FORMAT = "unexpected format of the kernel's text"


class KernelFiles:
    """Files under ``root`` that stay open: opening one costs twice as much as reading it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptors: dict[str, int] = {}

    def read(self, name: str) -> bytes:
        """Return the first bytes of the file ``root/name``.

        Raises:
            ReadingFailed: the file cannot be read, or is empty.
        """
        try:
            if name not in self._descriptors:
                self._descriptors[name] = os.open(self._root / name, os.O_RDONLY)
            text = os.pread(self._descriptors[name], _READ_BYTES, 0)
        except OSError as error:
            raise ReadingFailed(explain_os_error(error, f"/{name}")) from None
        if not text:
            raise ReadingFailed(f"/{name}: empty")
        return text

    def close(self) -> None:
        """Close all files; a later read opens its file again."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


class Window(NamedTuple):
    """Samples of a telemetry: the position of the first, and of the first after it."""

    start: int
    end: int


class TelemetryColumn:
    """One quantity over time, of the same length as all others.

    Where it is not read, or a reading fails, the last value is repeated; such samples are in no statistic. A column
    that was never read, or failed for a second, is dropped.
    """

    def __init__(self, name: str, unit: str, read: Callable[[], float], every: int = 1) -> None:
        """Make a column that is read at each ``every``-th sample."""
        self.name = name
        self.unit = unit
        self.failure: str | None = None
        self.read_at: list[int] = []
        self._read = read
        self._every = every
        self._until_due = 0
        self._failure_count = self._failures_in_a_row = 0
        self._last_failure = ""
        self._samples: list[float] = []

    def sample(self) -> None:
        """Take one reading or repeat the last; or drop the column."""
        if self.failure is not None:
            return
        if self._until_due:
            self._until_due -= 1
            self._samples.append(self._samples[-1])
            return
        try:
            self._samples.append(float(self._read()))
        except ReadingFailed as failure:
            self._fail(str(failure))
        except (ValueError, IndexError):
            self._fail(UNEXPECTED_FORMAT)
        else:
            self.read_at.append(len(self._samples) - 1)
            self._until_due = self._every - 1
            self._failures_in_a_row = 0

    def make_due(self) -> None:
        """Let the next sample be a reading."""
        self._until_due = 0

    def _fail(self, reason: str) -> None:
        self._failure_count += 1
        self._failures_in_a_row += 1
        self._last_failure = reason
        if self._samples and self._failures_in_a_row < _FAILURES_IN_A_ROW_MAX:
            self._samples.append(self._samples[-1])
            return
        self.failure = reason + (f" (after {len(self.read_at)} readings)" if self._samples else "")
        self._samples.clear()

    def explain(self) -> str | None:
        """Return why the column is unknown, or how many of its readings failed; None where there is nothing to say."""
        if self.failure is not None or not self._failure_count:
            return self.failure
        count = len(self.read_at) + self._failure_count
        return f"{self._failure_count} of {count} readings failed, the last value stands for them: {self._last_failure}"

    def readings(self, window: Window, at_least: int = 1) -> tuple[float, ...]:
        """Return what was read in a window.

        Raises:
            ReadingFailed: the column is unknown, or was read less often.
        """
        if self.failure is not None:
            raise ReadingFailed(self.failure)
        first, last = (bisect_left(self.read_at, position) for position in window)
        if last - first < at_least:
            raise ReadingFailed(f"{last - first} readings in the measured stage: this needs {at_least}")
        return tuple(self._samples[position] for position in self.read_at[first:last])

    def series(self) -> Series:
        """Return the column as a stored series."""
        return Series(name=self.name, unit=self.unit, samples=tuple(self._samples))

    @as_reading
    def mean(self, window: Window) -> float:
        """Return the mean of a window's readings."""
        return fmean(self.readings(window))

    @as_reading
    def spread(self, window: Window) -> float:
        """Return the distance of a window's 10th and 90th percentile over its median; it needs ten readings."""
        samples = self.readings(window, _READINGS_FOR_SPREAD)
        if median(samples) <= 0:
            raise ReadingFailed("the median is not above zero")
        deciles = quantiles(samples, n=10)
        return (deciles[-1] - deciles[0]) / median(samples)


def make_columns(reads: Mapping[tuple[str, str], Callable[[], float]], every: int = 1) -> dict[str, TelemetryColumn]:
    """Return columns by name, from what reads each, by name and unit; all are read at each ``every``-th sample."""
    return {name: TelemetryColumn(name, unit, read, every) for (name, unit), read in reads.items()}
