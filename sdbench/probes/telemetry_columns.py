"""Cheap reading, over and over: files that stay open, and columns that drop out whole when a reading fails."""

import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median, quantiles

from sdbench.probes.files import explain_os_error
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import Series

# Long enough for the lines that are read; the kernel makes the whole text of some of these files at each read.
_READ_BYTES = 512
_SAMPLES_FOR_SPREAD = 10
_NO_SAMPLE = Unknown(reason="too few samples were taken")


class ReadingFailed(Exception):
    """A reading failed; the text says which and why."""


class KernelFile:
    """A file of /proc or /sys, opened once and read from its start at each call."""

    def __init__(self, root: Path, name: str) -> None:
        """Open the file.

        Raises:
            ReadingFailed: it cannot be opened.
        """
        self.name = f"/{name}"
        try:
            self.descriptor = os.open(root / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ReadingFailed(explain_os_error(error, self.name).reason) from None

    def read(self) -> bytes:
        """Return the first bytes.

        Raises:
            ProcessLookupError: the process the file speaks of has ended.
            ReadingFailed: the file can no longer be read, or is empty.
        """
        try:
            text = os.pread(self.descriptor, _READ_BYTES, 0)
        except ProcessLookupError:
            raise
        except OSError as error:
            raise ReadingFailed(explain_os_error(error, self.name).reason) from None
        if not text:
            raise ReadingFailed(f"{self.name}: empty")
        return text


class Column:
    """One quantity over time. A reading that fails drops the whole column, so that all keep one length."""

    def __init__(self, name: str, unit: str, read: "ReadFloat") -> None:
        self.name = name
        self.unit = unit
        self.failure: Unknown | None = None
        self._read = read
        self._samples: list[float] = []

    def sample(self) -> None:
        """Take one reading, or drop the column."""
        if self.failure is not None:
            return
        try:
            self._samples.append(float(self._read()))
        except ReadingFailed as failure:
            self.drop(str(failure))
        except (ValueError, IndexError):
            self.drop("the kernel's text is not of the form expected")

    def drop(self, reason: str) -> None:
        """Forget the samples; the column is unknown from here on."""
        after = f" (after {len(self._samples)} samples)" if self._samples else ""
        self.failure = Unknown(reason=reason + after)
        self._samples.clear()

    def samples(self) -> tuple[float, ...]:
        """Return what was read; empty when the column is unknown."""
        return tuple(self._samples)

    def series(self) -> Series:
        """Return the column as a stored series."""
        return Series(name=self.name, unit=self.unit, samples=self.samples())


def read_mean(column: Column) -> Reading[float]:
    """Return the mean of a column's samples."""
    samples = column.samples()
    return Known[float](value=fmean(samples)) if samples else (column.failure or _NO_SAMPLE)


def read_spread(column: Column) -> Reading[float]:
    """Return the distance of the 10th and 90th percentile of a column over its median; it needs ten samples."""
    samples = column.samples()
    if len(samples) < _SAMPLES_FOR_SPREAD or median(samples) <= 0:
        return column.failure or _NO_SAMPLE
    deciles = quantiles(samples, n=10)
    return Known[float](value=(deciles[-1] - deciles[0]) / median(samples))


ReadFloat = Callable[[], float]
Opener = Callable[[], ReadFloat]


def open_column(name: str, unit: str, opener: Opener) -> Column:
    """Return the column whose readings ``opener`` prepares; unknown from the start where it cannot."""
    try:
        return Column(name, unit, opener())
    except ReadingFailed as failure:
        column = Column(name, unit, lambda: 0.0)
        column.drop(str(failure))
        return column
