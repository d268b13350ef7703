"""What a run tells while it goes on; the command line shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RunEvent:
    """One thing that happened.

    The counts are of experiments that have ended, and of all. ``remaining_s`` is about how long the run still
    takes, if that is known.
    """

    kind: Literal["waiting", "resumed", "launch", "stage", "sample", "launched", "ended", "sealed"]
    text: str
    experiment: str | None = None
    launch_index: int | None = None
    latency_s: float | None = None
    done_count: int | None = None
    total_count: int | None = None
    remaining_s: float | None = None


Listener = Callable[[RunEvent], None]
