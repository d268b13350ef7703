"""From exceptions to readings: inside, a reader raises ``ReadingFailed``; outside, its value is unknown."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from sdbench.schema.base import Known, Reading, Unknown

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


class ReadingFailed(Exception):
    """A value could not be read; the message is the reason."""


def as_reading(read: Callable[P, T]) -> Callable[P, Reading[T]]:
    """Return a reader whose failure (``ReadingFailed``) is an unknown value instead of an exception."""

    @wraps(read)
    def read_or_explain(*args: P.args, **kwargs: P.kwargs) -> Reading[T]:
        try:
            return Known(value=read(*args, **kwargs))
        except ReadingFailed as failure:
            return Unknown(reason=str(failure))

    return read_or_explain


def value_of(reading: Reading[T]) -> T:
    """Return the value of a reading.

    Raises:
        ReadingFailed: it is unknown.
    """
    if isinstance(reading, Unknown):
        raise ReadingFailed(reading.reason)
    return reading.value


def value_or(reading: Reading[T], default: U) -> T | U:
    """Return the value of a reading, ``default`` where it is unknown."""
    return reading.value if isinstance(reading, Known) else default


def known_values(readings: Iterable[Reading[T]]) -> list[T]:
    """Return the values of those readings that are known."""
    return [reading.value for reading in readings if isinstance(reading, Known)]
