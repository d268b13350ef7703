import io
import json
import os
import re
from typing import Any

import pytest

from sdbench.cli.live import LiveDisplay, has_colour, is_live, shorten
from sdbench.cli.progress import format_launched, open_listener
from sdbench.runner.events import RunEvent

MOVES = re.compile(r"\x1b\[(\d*)([AJK])")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Screen:
    """What a terminal shows of what was written to it: the few codes that the display uses."""

    def __init__(self, columns: int = 80, lines: int = 24, *, colour: bool = False) -> None:
        self.stream = Terminal()
        self.now_s = 0.0
        size = os.terminal_size((columns, lines))
        self.display = LiveDisplay(self.stream, colour=colour, size=lambda: size, clock=lambda: self.now_s)

    def show(self, kind: Any, text: str = "", **fields: Any) -> None:
        self.now_s += 1.0
        self.display.show(event(kind, text, **fields))

    @property
    def rows(self) -> list[str]:
        rows, row = [""], 0
        for part in re.split(r"(\x1b\[\d*[AJK]|\n)", self.stream.getvalue()):
            move = MOVES.fullmatch(part)
            if part == "\n":
                row += 1
                rows += [""] * (row == len(rows))
            elif move is None:
                rows[row] += part
            elif move[2] == "A":
                row -= int(move[1])
            elif move[2] == "K":
                rows[row] = ""
            else:
                rows[row:] = [""]
        return [text for text in rows if text]


def event(kind: Any = "launched", text: str = "", **fields: Any) -> RunEvent:
    given: dict[str, Any] = {
        "experiment": "tiny-sd bf16",
        "number": 1,
        "launch_index": 0,
        "launch_count": 3,
        "done_count": 0,
        "total_count": 6,
        "elapsed_s": 80.0,
        "remaining_s": 190.0,
    }
    return RunEvent(kind, text, **(given | fields))


def test_finished_launch_is_one_line_elsewhere() -> None:
    shown = format_launched(event(number=3, estimate_s=0.754))
    assert shown == "[3/6] tiny-sd bf16  launch 1/3  754 ms  1:20 of 4:30"


def test_block_of_an_interleaved_session_is_named() -> None:
    shown = format_launched(event(arm="b", block=2, block_count=7, estimate_s=0.754, half_width_ratio=0.021))
    assert shown == "[1/6] B  tiny-sd bf16  block 2 of 7  754 ms +-2.1 %  1:20 of 4:30"


def test_display_has_a_line_per_experiment_and_the_time() -> None:
    screen = Screen()
    screen.show("launched", estimate_s=0.754, half_width_ratio=0.021, launch_index=2)
    screen.show("launch", experiment="tiny-sd fp32", number=2)
    screen.show("stage", "measure", experiment="tiny-sd fp32", number=2)
    assert screen.rows == [
        "  tiny-sd bf16        754 ms    +-2.1 %  launch 3/3",
        "> tiny-sd fp32                           launch 1/3",
        "  4 waiting",
        "  ######..............  1:20 of 4:30  measure",
    ]


def test_tick_moves_the_time_although_nothing_else_happens() -> None:
    screen = Screen()
    screen.show("launch")
    screen.show("tick", elapsed_s=81.0, remaining_s=189.0)
    assert "  ######..............  1:21 of 4:30  starting" in screen.rows


def test_samples_are_not_each_drawn() -> None:
    screen = Screen()
    screen.show("launch")
    before = screen.stream.getvalue()
    for _ in range(10):
        screen.display.show(event("sample", latency_s=0.1))
    assert screen.stream.getvalue() == before


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10), (20, 5)])
def test_display_stays_within_the_terminal(columns: int, lines: int) -> None:
    screen = Screen(columns, lines)
    for number in range(1, 60):
        label = f"batch {number} sd-1.4 fp32 eager attention 512x512 50 steps"
        screen.show("launched", experiment=label, number=number, total_count=80, estimate_s=1.0, half_width_ratio=0.02)
        assert max(map(len, screen.rows)) < columns
        assert len(screen.rows) < lines
    if columns == 80:
        assert any("batch 59 " in row and row.startswith("> ") for row in screen.rows)
        assert any("21 waiting" in row for row in screen.rows)


def test_failure_is_a_line_that_stays_above() -> None:
    screen = Screen()
    screen.show("launch")
    screen.show("ended", "tiny-sd bf16: out of device memory during 'load'")
    screen.display.erase()
    assert screen.rows == ["tiny-sd bf16: out of device memory during 'load'"]


def test_note_wraps_at_spaces_and_stays_above() -> None:
    screen = Screen(40)
    screen.show("note", "30 s gives about 7 blocks; use --budget 4m, or repeat the command")
    screen.display.erase()
    assert screen.rows == ["30 s gives about 7 blocks; use --budget", "  4m, or repeat the command"]


def test_label_cannot_steer_the_terminal() -> None:
    screen = Screen()
    screen.show("launch", experiment="\x1b[2J evil\r")
    screen.show("ended", "\x1b[31m")
    assert not {"\x1b[2J", "\x1b[31m", "\r"} & set(re.findall(r"\x1b\[2J|\x1b\[31m|\r", screen.stream.getvalue()))


def test_narrow_interval_is_green_and_a_wide_one_yellow() -> None:
    screen = Screen(colour=True)
    screen.show("launched", estimate_s=1.0, half_width_ratio=0.01)
    assert "\x1b[32m    +-1.0 %" in screen.stream.getvalue()
    screen.show("launched", estimate_s=1.0, half_width_ratio=0.5)
    assert "\x1b[33m   +-50.0 %" in screen.stream.getvalue()


def test_colours_follow_the_terminal_and_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert has_colour(Terminal())
    assert not has_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())
    assert is_live(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(Terminal())


def test_quiet_run_still_says_that_it_waits(capsys: pytest.CaptureFixture[str]) -> None:
    with open_listener(quiet=True) as listener:
        listener(event("launched"))
        listener(event("waiting", "device cpu is held by process 7"))
    assert capsys.readouterr().err == "device cpu is held by process 7\n"


def test_ticks_are_no_events_of_the_json_output(capsys: pytest.CaptureFixture[str]) -> None:
    with open_listener(json_lines=True) as listener:
        listener(event("tick"))
        listener(event("launched"))
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == ["launched"]


def test_long_label_loses_its_middle() -> None:
    assert shorten("tiny-sd fp32 batch 1 64x64 4 steps", 20) == "tiny-sd f..4 4 steps"
