"""Repeated cheap reads: files that stay open, and columns that are dropped when a reading fails."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, median, quantiles

from sdbench.probes.readings import ReadingFailed, as_reading
from sdbench.probes.sysfs import explain_os_error
from sdbench.schema.outcome import Series

# Long enough for the lines that are read; the kernel generates some of these files in full at each read.
_READ_BYTES = 512
_SAMPLES_FOR_SPREAD = 10
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


class TelemetryColumn:
    """One quantity over time. A reading that fails drops the column, so that all columns have the same length."""

    def __init__(self, name: str, unit: str, read: Callable[[], float]) -> None:
        self.name = name
        self.unit = unit
        self.failure: str | None = None
        self._read = read
        self._samples: list[float] = []

    def sample(self) -> None:
        """Take one reading, or drop the column."""
        if self.failure is not None:
            return
        try:
            self._samples.append(float(self._read()))
        except ReadingFailed as failure:
            self._drop(str(failure))
        except (ValueError, IndexError):
            self._drop(UNEXPECTED_FORMAT)

    def _drop(self, reason: str) -> None:
        after = f" (after {len(self._samples)} samples)" if self._samples else ""
        self.failure = reason + after
        self._samples.clear()

    def samples(self, at_least: int = 1) -> tuple[float, ...]:
        """Return what was read.

        Raises:
            ReadingFailed: the column is unknown, or has fewer samples.
        """
        if self.failure is not None:
            raise ReadingFailed(self.failure)
        if len(self._samples) < at_least:
            raise ReadingFailed("too few samples were taken" if self._samples else "no sample was taken")
        return tuple(self._samples)

    def series(self) -> Series:
        """Return the column as a stored series."""
        return Series(name=self.name, unit=self.unit, samples=tuple(self._samples))

    @as_reading
    def mean(self) -> float:
        """Return the mean of the samples."""
        return fmean(self.samples())

    @as_reading
    def spread(self) -> float:
        """Return the distance of the 10th and 90th percentile over the median; it needs ten samples."""
        samples = self.samples(_SAMPLES_FOR_SPREAD)
        if median(samples) <= 0:
            raise ReadingFailed("the median is not above zero")
        deciles = quantiles(samples, n=10)
        return (deciles[-1] - deciles[0]) / median(samples)


def make_columns(reads: Mapping[tuple[str, str], Callable[[], float]]) -> dict[str, TelemetryColumn]:
    """Return columns by name, from what reads each, by name and unit."""
    return {name: TelemetryColumn(name, unit, read) for (name, unit), read in reads.items()}
