import re

import pytest

from sdbench.report.charts.encode import log_ticks
from sdbench.report.render import make_stylesheet
from sdbench.report.theme import DARK, LIGHT, MACHINE_MARKS

TEXT_COLOURS = ("text", "muted", "link", "good", "warn", "bad")
MARK_COLOURS = (*MACHINE_MARKS, "mark-muted")
BACKGROUNDS = ("page", "panel")
TEXT_CONTRAST = 4.5
MARK_CONTRAST = 3.0
THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def luminance(colour: str) -> float:
    """Relative luminance (0 to 1), WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#e69f00", "#ffffff") == pytest.approx(2.3, abs=0.1)


@THEMES
@pytest.mark.parametrize("colour", TEXT_COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_texts_stand_out(theme: dict[str, str], colour: str, background: str) -> None:
    assert contrast(theme[colour], theme[background]) >= TEXT_CONTRAST


@THEMES
@pytest.mark.parametrize("colour", MARK_COLOURS)
def test_marks_stand_out(theme: dict[str, str], colour: str) -> None:
    assert contrast(theme[colour], theme["page"]) >= MARK_CONTRAST


def test_both_themes_have_the_same_colours_and_each_is_judged() -> None:
    assert LIGHT.keys() == DARK.keys()
    # A rule only divides, and a grey bar has an outline that stands out: nothing is read from these.
    assert set(LIGHT) == {*TEXT_COLOURS, *MARK_COLOURS, *BACKGROUNDS, "rule", "bar-muted"}


def test_stylesheet_uses_no_variable_that_the_themes_lack() -> None:
    style = make_stylesheet()
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", style)) <= set(LIGHT)


def test_printed_page_is_light() -> None:
    assert "@media screen and (prefers-color-scheme: dark)" in make_stylesheet()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.15, 3.0, [0.2, 0.5, 1.0, 2.0]), (0.9, 1.15, [1.0]), (0.004, 900.0, [0.01, 0.1, 1.0, 10.0, 100.0])],
)
def test_log_axis_has_round_ticks_within_its_ends(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)
