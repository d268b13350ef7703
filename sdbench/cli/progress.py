"""What a run shows while it goes on: a live bar on a terminal, lines elsewhere, JSON lines, or nothing."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from sdbench.runner.events import Listener, RunEvent
from sdbench.units import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Samples and stages are many: only a live bar shows them.
_LINE_KINDS = ("waiting", "resumed", "launch", "launched", "ended", "sealed")


@contextlib.contextmanager
def open_listener(options: argparse.Namespace) -> Iterator[Listener]:
    """Yield what a run's events go to, as the command line and the terminal ask."""
    if options.json:
        yield print_json
    elif options.quiet:
        yield lambda _event: None
    elif sys.stderr.isatty():
        with _live() as listener:
            yield listener
    else:
        yield print_line


def print_json(event: RunEvent) -> None:
    """Print an event as one JSON object on standard output."""
    print(json.dumps({key: value for key, value in asdict(event).items() if value is not None}), flush=True)


def print_line(event: RunEvent) -> None:
    """Print an event as one plain line on standard error."""
    if event.kind in _LINE_KINDS:
        print(line_of(event), file=sys.stderr, flush=True)


def line_of(event: RunEvent) -> str:
    """Return an event as a plain line."""
    left = ""
    if event.kind == "launch" and event.remaining_s:
        left = f" (at most about {format_duration(event.remaining_s)} left)"
    return f"{event.kind:8} {event.text}{left}"


@contextlib.contextmanager
def _live() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[last]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    # Redrawn only on events: a timer thread would cost CPU beside the measurement.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("starting", total=1.0, last="", left="")
        yield lambda event: _draw(bar, task, event)


def _draw(bar: "Progress", task: "TaskID", event: RunEvent) -> None:
    if event.kind in ("waiting", "resumed", "ended"):
        bar.console.print(line_of(event), highlight=False, markup=False)
    if event.remaining_s is not None:
        elapsed_s = bar.tasks[0].elapsed or 0.0
        bar.update(task, completed=elapsed_s, total=max(1.0, elapsed_s + event.remaining_s))
        bar.update(task, left=f"up to {format_duration(event.remaining_s)} left" if event.remaining_s else "")
    if event.experiment is not None and event.launch_index is not None:
        stage = f": {event.text}" if event.kind == "stage" else ""
        bar.update(task, description=f"{event.experiment}, launch {event.launch_index + 1}{stage}".replace("[", "\\["))
    if event.latency_s is not None:
        bar.update(task, last=f"last {format_duration(event.latency_s)}")
    bar.refresh()
