"""The same picture in fewer bytes: rounded coordinates, no words that the page has anyway, dots as one path."""

import re
from itertools import pairwise

_NUMBER = re.compile(r"-?\d+\.\d{2,}")
# Where numbers are coordinates: never in a text.
_PLACES = re.compile(r' (?:transform|d|x1?|x2|y1?|y2|width|height)="[^"]*"')
# The page's stylesheet gives the font; 1 is the default; roles of parts are hidden, the chart has one label as a whole.
_REDUNDANT = re.compile(
    r' (?:font-family="[^"]*"|font-size="12px"|opacity="1"|role="graphics-[a-z]+"|aria-roledescription="[^"]*"'
    r'|pointer-events="none"|aria-hidden="true"|xmlns:xlink="[^"]*"|class="(?:background|foreground)")'
)
_INVISIBLE = re.compile(r'<path d=""[^>]*display="none"/>|<path d="M0,0h0v0h0Z"/>')
_MARK = re.compile(r'<path transform="translate\(([-\d.]+),([-\d.]+)\)" d="([^"]+)"([^>]*)/>')
_MARKS = re.compile(rf"(?:{_MARK.pattern}){{2,}}")
_CIRCLE = re.compile(r"M([\d.]+),0A")
_POLYGON = re.compile(r"M[-\d.,L]+Z")
_FILL = re.compile(r' fill="([^"]+)" stroke-width="2"')


def compact_svg(svg: str) -> str:
    """Return an SVG of vl-convert's for this page: a twentieth of a pixel and a default attribute more or less."""
    svg = _REDUNDANT.sub("", svg)
    svg = _PLACES.sub(lambda match: _NUMBER.sub(_round, match[0]), svg)
    return _MARKS.sub(lambda match: _join_marks(match[0]), _INVISIBLE.sub("", svg))


def _round(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _join_marks(text: str) -> str:
    """Marks of one shape and look as one path: 10 bytes a circle and 40 a triangle, not 200."""
    looks: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for x, y, shape, look in _MARK.findall(text):
        looks.setdefault((shape, look), []).append((x, y))
    return "".join(_draw_together(shape, look, places) for (shape, look), places in looks.items())


def _draw_together(shape: str, look: str, places: list[tuple[str, str]]) -> str:
    circle, fill = _CIRCLE.match(shape), _FILL.fullmatch(look)
    if circle and fill:
        # The round ends of strokes without length.
        moves = "".join(f"M{x},{y}h0" for x, y in places)
        width = 2 * float(circle[1])
        return f'<path stroke="{fill[1]}" stroke-width="{width:g}" stroke-linecap="round" d="{moves}"/>'
    if _POLYGON.fullmatch(shape):
        relative = _make_relative(shape)
        return f'<path d="{"".join(f"M{x},{y}{relative}" for x, y in places)}"{look}/>'
    return "".join(f'<path transform="translate({x},{y})" d="{shape}"{look}/>' for x, y in places)


def _make_relative(polygon: str) -> str:
    """A closed polygon around its origin as moves from there."""
    corners = [tuple(map(float, corner.split(","))) for corner in polygon[1:-1].split("L")]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise([(0.0, 0.0), *corners])]
    return "m" + "l".join(f"{x:.3g},{y:.3g}" for x, y in steps) + "z"
