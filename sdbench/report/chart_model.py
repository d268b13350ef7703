"""The typed charts: what is drawn, already worded, rounded and in order; ``charts`` draws it."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from sdbench.report.escape import Text
from sdbench.schema.base import Count, Model, PositiveInt

AnswerRole = Literal["measured", "projected", "reference"]
SampleKind = Literal["steady", "warm-up", "throttled"]
DrawnVerdict = Literal["slower", "faster", "same", "inconclusive"]


class _Chart(Model):
    title: Text = ""
    alt: Text
    caption: Text


class _ScaledChart(_Chart):
    axis: Text
    log_scale: bool

    @property
    def axis_title(self) -> str:
        """What the axis shows, and whether its scale is logarithmic."""
        return f"{self.axis}, log scale" if self.log_scale else self.axis


class _MachineMark(Model):
    label: Text
    machine: Text


class IntervalMark(_MachineMark):
    """A value and its interval, in the unit of the chart; without one it is open if launches are too few for one."""

    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    text: Text
    limit: FiniteFloat | None = None
    is_open: bool = False


class IntervalChart(_ScaledChart):
    """Horizontal points (or bars from zero) with whiskers, one row per experiment; ``limit`` is how far it could go."""

    kind: Literal["points", "bars"]
    machines: tuple[Text, ...]
    marks: tuple[IntervalMark, ...]


class AnswerMark(Model):
    """What a machine needs for one image: measured here, projected, or published by others; ``remark`` compares it."""

    label: Text
    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    is_open: bool
    role: AnswerRole
    text: Text
    remark: Text


class AnswerChart(_ScaledChart):
    """A row per machine that answers one question, the fastest first: bars from zero, or points on a log scale."""

    kind: Literal["answers"] = "answers"
    marks: tuple[AnswerMark, ...]


class LinePoint(Model):
    """A point of a line: a whole number such as the batch size, a value and its interval."""

    line: Text
    x: PositiveInt
    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class LineMark(Model):
    """A place of the axis where something changed, and what."""

    x: PositiveInt
    text: Text


class LineChart(_ScaledChart):
    """Lines over a whole number, whose axis doubles from tick to tick when ``doubling``; intervals as bands.

    With ``x_names`` the numbers, from 1, stand for these. Without ``from_zero`` the axis covers only the values' range.
    A line of ``stops`` ends there, at the height of its last point, although more was requested. ``marks`` are places
    where something changed.
    """

    kind: Literal["lines"] = "lines"
    x_axis: Text
    doubling: bool = False
    from_zero: bool = True
    x_names: tuple[Text, ...] = ()
    points: tuple[LinePoint, ...]
    stops: tuple[LinePoint, ...] = ()
    marks: tuple[LineMark, ...] = ()


class Share(_MachineMark):
    """A part (ratio, 0 to 1) of the row's whole."""

    part: Text
    ratio: FiniteFloat
    whole: Text


class ShareChart(_Chart):
    """Stacked horizontal bars of equal length."""

    kind: Literal["shares"] = "shares"
    machines: tuple[Text, ...]
    parts: tuple[Text, ...]
    shares: tuple[Share, ...]


class SampleMark(_MachineMark):
    """One raw sample as a ratio to its row's median."""

    launch: Count
    ratio: FiniteFloat
    kind: SampleKind


class SampleChart(_ScaledChart):
    """Every raw sample."""

    kind: Literal["samples"] = "samples"
    machines: tuple[Text, ...]
    marks: tuple[SampleMark, ...]


class TracePoint(Model):
    """What a series was over a stretch of time: its median, lowest and highest reading."""

    series: Text
    machine: Text
    launch: Count
    minute: FiniteFloat
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class TraceChart(_Chart):
    """Readings over the minutes of a run, a panel per series; a line ends where its launch does."""

    kind: Literal["traces"] = "traces"
    machines: tuple[Text, ...]
    points: tuple[TracePoint, ...]


class RatioMark(Model):
    """A ratio candidate / baseline with its interval, and the verdict on it."""

    label: Text
    ratio: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    verdict: DrawnVerdict
    text: Text
    is_open: bool = False


class RatioChart(_Chart):
    """Ratios around 1 with the margin as a band, a row per experiment; shape, colour and word show the verdicts."""

    kind: Literal["ratios"] = "ratios"
    axis: Text
    margin: FiniteFloat
    marks: tuple[RatioMark, ...]


class ChangeMark(Model):
    """What a part of a call adds to a difference (ms); the last one is the whole."""

    label: Text
    value: FiniteFloat
    kind: Literal["longer", "shorter", "whole"]
    text: Text


class ChangeChart(_Chart):
    """Bars from zero to both directions: what each operator adds to a difference, and the whole difference."""

    kind: Literal["changes"] = "changes"
    axis: Text
    marks: tuple[ChangeMark, ...]


class Roof(Model):
    """The most FLOP a second that matrix products reach; ``is_own`` marks the precision that the marks compute in."""

    name: Text
    flop_per_s: FiniteFloat
    is_own: bool


class RooflineMark(Model):
    """A phase: its FLOP for each byte that it moves, and the FLOP a second that it achieves."""

    label: Text
    intensity_flop_per_byte: FiniteFloat
    flop_per_s: FiniteFloat


class RooflineChart(_Chart):
    """Phases under what a machine reaches: its memory as a slope, its matrix products as roofs; both axes log."""

    kind: Literal["roofline"] = "roofline"
    memory_bytes_per_s: FiniteFloat
    memory_name: Text
    roofs: tuple[Roof, ...]
    marks: tuple[RooflineMark, ...]


Chart = Annotated[
    IntervalChart
    | AnswerChart
    | LineChart
    | ShareChart
    | SampleChart
    | TraceChart
    | RatioChart
    | ChangeChart
    | RooflineChart,
    Field(discriminator="kind"),
]
