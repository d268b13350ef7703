"""Delay Ctrl-C and SIGTERM while a line is written or a record sealed."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM; one that arrives meanwhile becomes a KeyboardInterrupt at the end.

    Handlers, not a signal mask: a mask binds one thread, and numpy's threads would take the signal instead.

    Raises:
        KeyboardInterrupt: a signal arrived.
    """
    received: list[int] = []
    before = {number: signal.signal(number, lambda caught, _frame: received.append(caught)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that an interrupted run seals the record with the launches so far."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
