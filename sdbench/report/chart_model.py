"""The typed charts: what is drawn, already worded, rounded and in order; how is said in ``charts``."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from sdbench.report.safe_text import Text
from sdbench.schema.base import Count, Model, PositiveInt

SampleKind = Literal["steady", "warm-up", "throttled"]
DrawnVerdict = Literal["slower", "faster", "same", "inconclusive"]


class IntervalMark(Model):
    """A value and its interval, in the unit of the chart; no interval with one launch only."""

    label: Text
    machine: Text
    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    text: Text
    limit: FiniteFloat | None = None


class IntervalChart(Model):
    """Horizontal points (or bars from zero) with whiskers, one row per experiment; ``limit`` is how far it could go."""

    kind: Literal["points", "bars"]
    alt: Text
    caption: Text
    axis: Text
    log_scale: bool
    machines: tuple[Text, ...]
    marks: tuple[IntervalMark, ...]


class LinePoint(Model):
    """A point of a line: a whole number such as the batch size, a value and its interval."""

    line: Text
    x: PositiveInt
    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None


class LineStop(Model):
    """Where a line ends although more was asked for, at the height of its last point."""

    line: Text
    x: PositiveInt
    value: FiniteFloat


class LineChart(Model):
    """Lines over a whole number, whose axis doubles from tick to tick when ``doubling``; intervals as bands.

    With ``x_names`` the numbers, from 1, stand for these. Not ``from_zero``, the axis has room for what differs only.
    """

    kind: Literal["lines"] = "lines"
    alt: Text
    caption: Text
    x_axis: Text
    doubling: bool
    axis: Text
    log_scale: bool
    from_zero: bool = True
    x_names: tuple[Text, ...] = ()
    points: tuple[LinePoint, ...]
    stops: tuple[LineStop, ...] = ()


class Share(Model):
    """A part (ratio, 0 to 1) of the row's whole."""

    label: Text
    machine: Text
    part: Text
    ratio: FiniteFloat
    whole: Text


class ShareChart(Model):
    """Stacked horizontal bars of equal length."""

    kind: Literal["shares"] = "shares"
    alt: Text
    caption: Text
    machines: tuple[Text, ...]
    parts: tuple[Text, ...]
    shares: tuple[Share, ...]


class SampleMark(Model):
    """One raw sample as a ratio to its row's median."""

    label: Text
    machine: Text
    launch: Count
    ratio: FiniteFloat
    kind: SampleKind


class SampleChart(Model):
    """Every raw sample."""

    kind: Literal["samples"] = "samples"
    alt: Text
    caption: Text
    axis: Text
    log_scale: bool
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


class TraceChart(Model):
    """Readings over the minutes of a run, a panel per series; a line ends where its launch does."""

    kind: Literal["traces"] = "traces"
    alt: Text
    caption: Text
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


class RatioChart(Model):
    """Ratios around 1 with the margin as a band, a row per experiment; shape, colour and word tell the verdicts."""

    kind: Literal["ratios"] = "ratios"
    alt: Text
    caption: Text
    axis: Text
    margin: FiniteFloat
    marks: tuple[RatioMark, ...]


Chart = Annotated[
    IntervalChart | LineChart | ShareChart | SampleChart | TraceChart | RatioChart, Field(discriminator="kind")
]
