"""``python -m sdbench.worker FD PARENT``: read a request on standard input, measure, write events to FD."""

import faulthandler
import os
import signal
import sys
from typing import BinaryIO

from sdbench.backends.orphans import die_with
from sdbench.worker.events import EventWriter


def main(arguments: list[str]) -> int:
    """Measure one launch; return 0 when a result or a failure was reported."""
    events_fd, parent_pid = (int(text) for text in arguments)
    die_with(parent_pid)
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the supervisor asks where a hung worker hangs
    with os.fdopen(events_fd, "wb", buffering=0) as stream:
        return measure_and_report(stream)


def measure_and_report(stream: BinaryIO) -> int:
    """Run the request; this is the boundary where any exception becomes a reported failure."""
    events = EventWriter(stream)
    try:
        from sdbench.worker.launch import run_launch

        events.say_result(run_launch(sys.stdin.buffer.read(), events))
    except Exception as error:  # noqa: BLE001 - the worker boundary: the supervisor turns it into an outcome
        events.say_failure(error)
        sys.excepthook(type(error), error, error.__traceback__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
