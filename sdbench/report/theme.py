"""The page's colours in both themes, as CSS variables: charts and text use the variables, so one SVG serves both.

The names say what a colour is for. Every text colour has a contrast of 4.5:1 or more, every mark 3:1 or more
(WCAG 2.2, success criteria 1.4.3 and 1.4.11); a unit test computes them.
"""

from typing import Final

TEXT_COLOURS: Final = ("text", "muted", "link", "good", "bad")
MARK_COLOURS: Final = ("mark-1", "mark-2", "mark-3", "mark-4", "mark-5", "mark-6", "mark-muted")
BACKGROUNDS: Final = ("page", "panel")

# Okabe and Ito's hues, darkened for white and lightened for black until the contrast holds: their orange and sky
# blue have 2.3:1 and 2.5:1 on white.
LIGHT: Final = {
    "page": "#ffffff",
    "panel": "#f4f4f2",
    "text": "#1a1a1a",
    "muted": "#5c5c5c",
    "rule": "#dddddd",
    "link": "#00558a",
    "good": "#1e6b35",
    "bad": "#a83200",
    "mark-1": "#0072b2",
    "mark-2": "#b07300",
    "mark-3": "#00805c",
    "mark-4": "#c2500a",
    "mark-5": "#a4508b",
    "mark-6": "#4d4d4d",
    "mark-muted": "#767676",
}
DARK: Final = {
    "page": "#15181b",
    "panel": "#1f2327",
    "text": "#ececec",
    "muted": "#a9adb1",
    "rule": "#3a4046",
    "link": "#7cc4f2",
    "good": "#6fcf8f",
    "bad": "#ff9a6b",
    "mark-1": "#56b4e9",
    "mark-2": "#e6a11a",
    "mark-3": "#2fc497",
    "mark-4": "#f07f42",
    "mark-5": "#d694c2",
    "mark-6": "#c4c4c4",
    "mark-muted": "#8d9298",
}

MACHINE_MARKS: Final = MARK_COLOURS[:6]
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


def css_variable(colour: str) -> str:
    """Return the CSS expression of a colour of this page, for example ``var(--mark-1)``."""
    return f"var(--{colour})"


def css_declarations(colours: dict[str, str]) -> str:
    """Return the declarations that give every variable its colour."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
