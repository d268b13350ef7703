"""The page's colours in both themes, as CSS variables: charts and text use the variables, so one SVG serves both.

A colour is named for its use. Every text colour has a contrast of 4.5:1 or more, every mark 3:1 or more
(WCAG 2.2, success criteria 1.4.3 and 1.4.11); a unit test computes them.
"""

from typing import Final

# Okabe and Ito's hues, darkened for white and lightened for black until the contrast holds: their orange and sky
# blue have 2.3:1 and 2.5:1 on white.
# Each on white, and on black.
_COLOURS: Final = {
    "page": ("#ffffff", "#15181b"),
    "panel": ("#f4f4f2", "#1f2327"),
    "text": ("#1a1a1a", "#ececec"),
    "muted": ("#5c5c5c", "#a9adb1"),
    "rule": ("#dddddd", "#3a4046"),
    "link": ("#00558a", "#7cc4f2"),
    "good": ("#1e6b35", "#6fcf8f"),
    "bad": ("#a83200", "#ff9a6b"),
    "mark-1": ("#0072b2", "#56b4e9"),
    "mark-2": ("#b07300", "#e6a11a"),
    "mark-3": ("#00805c", "#2fc497"),
    "mark-4": ("#c2500a", "#f07f42"),
    "mark-5": ("#a4508b", "#d694c2"),
    "mark-6": ("#4d4d4d", "#c4c4c4"),
    "bar-muted": ("#c9d0d6", "#4a5157"),
    "warn": ("#8a5a00", "#e6a11a"),
    "mark-muted": ("#767676", "#8d9298"),
}
LIGHT: Final = {name: light for name, (light, _) in _COLOURS.items()}
DARK: Final = {name: dark for name, (_, dark) in _COLOURS.items()}

MACHINE_MARKS: Final = ("mark-1", "mark-2", "mark-3", "mark-4", "mark-5", "mark-6")
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


def css_variable(colour: str) -> str:
    """Return the CSS expression of a colour of this page, for example ``var(--mark-1)``."""
    return f"var(--{colour})"
