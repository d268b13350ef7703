"""The events of a run, which the command line shows, and the lines of ``sdbench run --json`` read back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

_LINE_CHARACTERS = 500

EventKind = Literal["waiting", "resumed", "note", "launch", "stage", "sample", "tick", "launched", "ended", "sealed"]


@dataclass(frozen=True)
class Outlook:
    """Where an interleaved session is: its block (from 1), of how many before it may end, and the time left (s)."""

    block: int
    block_count: int
    remaining_s: float


@dataclass(frozen=True)
class RunEvent:
    """One thing that happened; a tick is that nothing has for a second.

    ``number`` (from 1) is the experiment's place among those that were not skipped in the plan, ``total_count``;
    ``done_count`` of them have ended.
    ``estimate_s`` is its latency over the launches so far, with half its interval as a ratio where that is useful.
    ``remaining_s`` is about how long the run still takes, if that is known; ``budget_s`` limits it and ``elapsed_s``.
    """

    kind: EventKind
    text: str
    experiment: str | None = None
    arm: str | None = None
    number: int | None = None
    launch_index: int | None = None
    launch_count: int | None = None
    block: int | None = None
    block_count: int | None = None
    latency_s: float | None = None
    estimate_s: float | None = None
    half_width_ratio: float | None = None
    done_count: int | None = None
    total_count: int | None = None
    elapsed_s: float | None = None
    remaining_s: float | None = None
    budget_s: float | None = None


Listener = Callable[[RunEvent], None]


def read_line(line: str) -> tuple[dict[str, Any], str]:
    """Return the event in a line of ``sdbench run --json`` and its progress text.

    Another line has an empty event and is its own text; samples and stages, which are many, have an empty text.
    """
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        return {}, line.strip()[:_LINE_CHARACTERS]
    if event.get("kind") not in ("waiting", "resumed", "note", "launch", "launched", "ended"):
        return event, ""
    count = f"{event.get('done_count', 0)}/{event['total_count']} " if event.get("total_count") else ""
    return event, f"{count}{event.get('text', '')}"
