"""The live display of a run: a line per experiment, a bar for time, and the current step.

It writes its few lines itself: drawing them with rich takes ten times the CPU, next to a measurement.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from sdbench.cli.output import style_of_half_width, wrap_line
from sdbench.runner.events import RunEvent
from sdbench.units import format_clock, format_duration, printable

_STYLES = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "red": "31"}
_BAR_CHARACTERS = 20
_LABEL_MIN, _LABEL_MAX = 16, 60
# Samples of a small network come by the dozen a second.
_REDRAW_S = 0.5
# The summary and the bar, and one for the cursor.
_OTHER_LINES = 3


def has_colour(stream: TextIO) -> bool:
    """Return whether to write colours: to a terminal that has them, unless NO_COLOR is set."""
    return is_live(stream) and not os.environ.get("NO_COLOR")


def is_live(stream: TextIO) -> bool:
    """Return whether a stream is a terminal whose cursor can be moved."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str, *, colour: bool) -> str:
    """Return text in a style, or plain."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and style else text


@dataclass
class _Line:
    """What is shown of one experiment, or of one arm of it."""

    label: str
    estimate_s: float | None = None
    half_width_ratio: float | None = None
    launch: str = ""
    last_s: float | None = None
    has_failed: bool = False


class LiveDisplay:
    """Draws the state of a run in place, at events and at ticks."""

    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool,
        size: Callable[[], os.terminal_size] = shutil.get_terminal_size,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._colour, self._size, self._clock = stream, colour, size, clock
        self._lines: dict[tuple[int, str], _Line] = {}
        self._current: tuple[int, str] | None = None
        self._event: RunEvent | None = None
        self._stage = ""
        self._drawn_lines = 0
        self._drawn_s = float("-inf")

    def show(self, event: RunEvent) -> None:
        """Take up an event, and redraw unless that was done just now."""
        self._update(event)
        if event.kind in ("waiting", "resumed", "note", "ended"):
            self.erase()
            style = "red" if event.kind == "ended" else "yellow"
            text = wrap_line(printable(event.text), self._size()[0])
            self._stream.write(paint(text, style, colour=self._colour) + "\n")
        now_s = self._clock()
        if event.kind not in ("sample", "stage") or now_s - self._drawn_s >= _REDRAW_S:
            self._drawn_s = now_s
            self._draw()

    def erase(self) -> None:
        """Remove what is drawn."""
        if self._drawn_lines:
            self._stream.write(f"\x1b[G\x1b[{self._drawn_lines}A\x1b[J")  # ^C was echoed before the cursor
            self._drawn_lines = 0
        self._stream.flush()

    def _update(self, event: RunEvent) -> None:
        if event.kind == "waiting":
            return
        self._event = event
        if event.experiment is None or event.number is None:
            return
        key = (event.number, event.arm or "")
        arm = f"{event.arm.upper()}  " if event.arm else ""
        line = self._lines.setdefault(key, _Line(f"{arm}{printable(event.experiment)}"))
        self._current = key
        if event.kind == "launch":
            self._stage, line.last_s = "starting", None
        if event.kind == "stage":
            self._stage = printable(event.text)
        if event.latency_s is not None:
            line.last_s = event.latency_s
        if event.estimate_s is not None:
            line.estimate_s, line.half_width_ratio = event.estimate_s, event.half_width_ratio
        line.has_failed = line.has_failed or event.kind == "ended"
        line.launch = describe_launch(event)

    def _draw(self) -> None:
        if self._event is None:
            return
        width, height = self._size()
        shown = self._choose(max(1, height - _OTHER_LINES))
        label_width = max(_LABEL_MIN, min(_LABEL_MAX, width - 45, max((len(line.label) for line in shown), default=0)))
        rows = [self._format(line, label_width, width) for line in shown]
        rows += [row for row in (self._count(len(shown), width), self._bar(width)) if row]
        up = f"\x1b[G\x1b[{self._drawn_lines}A" if self._drawn_lines else ""
        self._stream.write(up + "".join(f"\x1b[2K{row}\n" for row in rows) + "\x1b[J")
        self._stream.flush()
        self._drawn_lines = len(rows)

    def _choose(self, count: int) -> list[_Line]:
        """The lines in the order of the plan; where there are too many, those around the current one."""
        keys = sorted(self._lines)
        place = keys.index(self._current) if self._current else 0
        first = max(0, min(place - count // 2, len(keys) - count))
        return [self._lines[key] for key in keys[first : first + count]]

    def _format(self, line: _Line, label_width: int, width: int) -> str:
        is_current = self._current is not None and line is self._lines[self._current]
        estimate, spread, style = _describe_estimate(line, is_current=is_current)
        label = f"{'>' if is_current else ' '} {shorten(line.label, label_width):{label_width}}"
        texts = (f"  {estimate:>8}", f"  {spread:>9}", f"  {line.launch}")
        styles = ("bold" if is_current else "", "", style, "")
        return paint_within(width - 1, zip((label, *texts), styles, strict=True), colour=self._colour)

    def _count(self, shown_count: int, width: int) -> str:
        event = self._event
        if event is None or event.total_count is None:
            return ""
        waiting = event.total_count - len({number for number, _ in self._lines})
        hidden = len(self._lines) - shown_count
        parts = ((event.done_count, "done"), (waiting, "waiting"), (hidden, "more not shown"))
        text = ", ".join(f"{count} {word}" for count, word in parts if count)
        return paint_within(width - 1, [(f"  {text}", "dim")], colour=self._colour) if text else ""

    def _bar(self, width: int) -> str:
        event = self._event
        if event is None or event.remaining_s is None or event.elapsed_s is None:
            return ""
        total_s = event.elapsed_s + event.remaining_s
        filled = min(_BAR_CHARACTERS, round(_BAR_CHARACTERS * event.elapsed_s / max(total_s, 1e-9)))
        line = self._lines[self._current] if self._current else None
        call = f", last call {format_duration(line.last_s)}" if line and line.last_s else ""
        texts = (
            ("  " + "#" * filled, "green"),
            ("." * (_BAR_CHARACTERS - filled), "dim"),
            (f"  {describe_time(event)}", "bold"),
            (f"  {self._stage}{call}" if self._stage else "", "dim"),
        )
        return paint_within(width - 1, texts, colour=self._colour)


def describe_launch(event: RunEvent) -> str:
    """Return where an experiment is: ``launch 3/8``, ``block 2 of 7``."""
    if event.block is not None:
        return f"block {event.block} of {event.block_count}"
    return f"launch {(event.launch_index or 0) + 1}/{event.launch_count}"


def describe_time(event: RunEvent) -> str:
    """Return the time that has passed and what it will be in all, at most: ``1:20 of 4:30``."""
    elapsed_s, remaining_s = event.elapsed_s or 0.0, event.remaining_s or 0.0
    return f"{format_clock(elapsed_s)} of {format_clock(elapsed_s + remaining_s)}"


def shorten(text: str, width: int) -> str:
    """Return a text of at most ``width`` characters, with its middle left out where it is longer."""
    if len(text) <= width:
        return text
    tail = (width - 2) // 2
    return f"{text[: width - 2 - tail]}..{text[len(text) - tail :]}"


def paint_within(width: int, texts: "Sequence[tuple[str, str]] | zip[tuple[str, str]]", *, colour: bool) -> str:
    """Return texts in their styles in one row, cut at ``width`` characters."""
    row = ""
    for text, style in texts:
        shown = text[: max(0, width)]
        width -= len(shown)
        row += paint(shown, style, colour=colour)
    return row


def _describe_estimate(line: _Line, *, is_current: bool) -> tuple[str, str, str]:
    """The estimate so far, half its interval, and the style of that; before the first launch ends, the last call."""
    if line.has_failed:
        return "", "failed", "red"
    if line.estimate_s is None:
        return (format_duration(line.last_s) if line.last_s and is_current else ""), "", "dim"
    if line.half_width_ratio is None:
        return format_duration(line.estimate_s), "", "dim"
    half_width = line.half_width_ratio
    style = style_of_half_width(half_width)
    return format_duration(line.estimate_s), f"+-{100 * half_width:.1f} %", style
