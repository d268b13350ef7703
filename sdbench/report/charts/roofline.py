"""A roofline: phases as points under the slope of the memory and the roofs of the matrix products, on log scales."""

from math import log10

from sdbench.report.chart_model import RooflineChart
from sdbench.report.charts.encode import PLOT_WIDTH_PX, POINT_SIZE_PX2, Altair, Drawing, Row, log_ticks, look, plot
from sdbench.report.theme import MACHINE_MARKS, SHAPES, css_variable

_WIDTH_PX, _HEIGHT_PX = PLOT_WIDTH_PX + 100, 330
# Around the outermost points and the ridge; the right has the names of the roofs within the frame.
_ROOM_LEFT, _ROOM_RIGHT, _ROOM_BELOW, _ROOM_ABOVE = 3.0, 6.0, 3.0, 2.2
_DOT_SIZE_PX2 = 2 * POINT_SIZE_PX2
# Names so close to each other are moved apart.
_LINE_PX, _NAME_WIDTH_PX = 15, 190
_UNITS = ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"))


def draw(alt: Altair, chart: RooflineChart) -> Drawing:
    """Return the drawing: the roofs with their names, then the points with theirs."""
    peak = max(roof.flop_per_s for roof in chart.roofs)
    scale, unit = next((item for item in _UNITS if peak >= item[0]), _UNITS[-1])
    frame = _Frame(chart, scale)
    own = [roof.is_own for roof in chart.roofs]
    x, y, text_y = frame.axes(alt, unit)
    layers = []
    for is_own, colour in ((False, css_variable("mark-muted")), (True, css_variable("text"))):
        if is_own in own:
            corners = plot(alt, [row for row in frame.roofs(chart) if row["is_own"] == is_own])
            lines = corners.mark_line(color=colour, strokeWidth=2 if is_own else 1, strokeDash=[] if is_own else [4, 3])
            layers.append(lines.encode(x=x, y=y, detail="name:N"))
            names = plot(alt, [row for row in frame.roof_names(chart) if row["is_own"] == is_own])
            layers.append(names.mark_text(align="right", dy=-8, color=colour).encode(x=x, y=y, text="name:N"))
    slope = plot(alt, [frame.slope_name(chart)])
    layers.append(slope.mark_text(align="left", dx=8, dy=8, color=css_variable("text")).encode(x=x, y=y, text="name:N"))
    rows = frame.marks(chart)
    labels = [row["label"] for row in rows]
    colours = {label: css_variable(name) for label, name in zip(labels, MACHINE_MARKS, strict=False)}
    shapes = dict(zip(labels, SHAPES, strict=False))
    points = plot(alt, rows).mark_point(filled=True, size=_DOT_SIZE_PX2)
    layers.append(
        points.encode(x=x, y=y, color=look(alt.Color, "label", colours), shape=look(alt.Shape, "label", shapes))
    )
    layers.append(plot(alt, rows).mark_text(align="left", dx=11).encode(x=x, y=text_y, text="label:N"))
    return alt.layer(*layers).properties(width=_WIDTH_PX, height=_HEIGHT_PX)


class _Frame:
    """The ends of both axes, and where things are within them."""

    def __init__(self, chart: RooflineChart, scale: float) -> None:
        self._scale = scale
        memory = chart.memory_bytes_per_s
        ridges = [roof.flop_per_s / memory for roof in chart.roofs]
        intensities = [mark.intensity_flop_per_byte for mark in chart.marks]
        rates = [mark.flop_per_s for mark in chart.marks]
        peaks = [roof.flop_per_s for roof in chart.roofs]
        self._x = min([*intensities, *ridges]) / _ROOM_LEFT, max([*intensities, *ridges]) * _ROOM_RIGHT
        self._y = min([*rates, *peaks]) / _ROOM_BELOW / scale, max([*rates, *peaks]) * _ROOM_ABOVE / scale

    def axes(self, alt: Altair, unit: str) -> tuple[Drawing, Drawing, Drawing]:
        """Return the encodings of x, of y, and of the heights of names."""
        columns = (
            (alt.X, "x", "FLOP for each byte moved, log scale", self._x),
            (alt.Y, "y", f"{unit}, log scale", self._y),
            (alt.Y, "text_y", f"{unit}, log scale", self._y),
        )
        x, y, text_y = (
            channel(
                f"{name}:Q",
                title=title,
                scale=alt.Scale(type="log", domain=list(ends), nice=False, clamp=True),
                axis=alt.Axis(format="~g", values=log_ticks(*ends)),
            )
            for channel, name, title, ends in columns
        )
        return x, y, text_y

    def roofs(self, chart: RooflineChart) -> list[Row]:
        """Return the corners of each roof: the slope from the frame to the ridge, then level to the other end."""
        memory = chart.memory_bytes_per_s / self._scale
        start = max(self._x[0], self._y[0] / memory)
        return [
            {"name": roof.name, "is_own": roof.is_own, "x": x, "y": min(x * memory, roof.flop_per_s / self._scale)}
            for roof in chart.roofs
            for x in (start, roof.flop_per_s / chart.memory_bytes_per_s, self._x[1])
        ]

    def roof_names(self, chart: RooflineChart) -> list[Row]:
        """Return the names at the right ends of the roofs."""
        return [
            {"name": roof.name, "is_own": roof.is_own, "x": self._x[1], "y": roof.flop_per_s / self._scale}
            for roof in chart.roofs
        ]

    def slope_name(self, chart: RooflineChart) -> Row:
        """Return the name of the slope, at its lower end."""
        memory = chart.memory_bytes_per_s / self._scale
        x = max(self._x[0], self._y[0] * 1.6 / memory)
        return {"name": chart.memory_name, "x": x, "y": x * memory}

    def marks(self, chart: RooflineChart) -> list[Row]:
        """Return the points, with the heights of their names moved apart where they would lie on each other."""
        placed: list[tuple[float, float]] = []
        rows: dict[str, Row] = {}
        for mark in sorted(chart.marks, key=lambda mark: mark.flop_per_s):
            x, y = mark.intensity_flop_per_byte, mark.flop_per_s / self._scale
            x_px, y_px = _place(x, self._x, _WIDTH_PX), _place(y, self._y, _HEIGHT_PX)
            near = [other for at, other in placed if abs(at - x_px) < _NAME_WIDTH_PX and other > y_px - _LINE_PX]
            text_px = max(near, default=y_px - _LINE_PX) + _LINE_PX
            placed.append((x_px, text_px))
            low, high = self._y
            text_y = low * (high / low) ** (text_px / _HEIGHT_PX)
            rows[mark.label] = {"label": mark.label, "x": x, "y": y, "text_y": text_y}
        return [rows[mark.label] for mark in chart.marks]


def _place(value: float, ends: tuple[float, float], length_px: int) -> float:
    """Where a value is on a log axis (px)."""
    return length_px * log10(value / ends[0]) / log10(ends[1] / ends[0])
