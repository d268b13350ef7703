"""Runs two fake experiments, the second of which hangs while the FIFO is there; one event per line on stdout."""

import signal
import sys
from pathlib import Path

from sdbench.runner.events import RunEvent
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.runner.run import run
from tests.runner.setups import make_spec


def print_event(event: RunEvent) -> None:
    print(event.kind, event.launch_index, flush=True)


if __name__ == "__main__":
    # A shell's background job ignores it, and hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out, fifo = Path(sys.argv[1]), sys.argv[2]
    with terminate_as_interrupt():
        result = run(make_spec(out, "good", f"hang:{fifo}"), print_event)
    print("ended", result.record.ended)
