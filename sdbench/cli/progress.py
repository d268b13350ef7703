"""The progress of a run: a live display on a terminal, lines elsewhere, JSON lines, or only what has to be known."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from sdbench.cli.live import LiveDisplay, describe_launch, describe_time, has_colour, is_live
from sdbench.cli.output import show, show_progress
from sdbench.runner.events import Listener, RunEvent
from sdbench.units import format_duration


@contextlib.contextmanager
def open_listener(*, json_lines: bool = False, quiet: bool = False) -> Iterator[Listener]:
    """Yield the listener for a run's events that suits the options and the terminal."""
    if json_lines:
        yield _print_json
    elif quiet:
        yield _print_wait
    elif is_live(sys.stderr):
        display = LiveDisplay(sys.stderr, colour=has_colour(sys.stderr))
        try:
            yield display.show
        finally:
            display.erase()
    else:
        yield _print_line


def _print_json(event: RunEvent) -> None:
    if event.kind != "tick":
        show(json.dumps({key: value for key, value in asdict(event).items() if value is not None}), flush=True)


def _print_wait(event: RunEvent) -> None:
    """Print that the run waits for the device: who sees nothing for minutes must know why."""
    if event.kind == "waiting":
        show_progress(event.text)


def _print_line(event: RunEvent) -> None:
    """Print a line per finished launch: samples and stages are many."""
    if event.kind in ("waiting", "resumed", "note", "ended"):
        show_progress(event.text)
    if event.kind == "launched":
        show_progress(format_launched(event))


def format_launched(event: RunEvent) -> str:
    """Return the line of a finished launch: ``[3/6] tiny-sd bf16  launch 1/3  754 ms  1:20 of 4:30``."""
    arm = f"{event.arm.upper()}  " if event.arm else ""
    half_width = "" if event.half_width_ratio is None else f" +-{100 * event.half_width_ratio:.1f} %"
    estimate = "" if event.estimate_s is None else format_duration(event.estimate_s) + half_width
    texts = (f"[{event.number}/{event.total_count}] {arm}{event.experiment}", describe_launch(event), estimate)
    return "  ".join(text for text in (*texts, describe_time(event)) if text)
