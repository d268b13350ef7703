"""The typed view: everything a template or a chart needs, already worded, rounded and in order."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, SerializeAsAny

from sdbench.schema.base import Count, Model, PositiveInt, Sha256

Tone = Literal["plain", "good", "bad", "muted"]
SampleKind = Literal["steady", "warm-up", "throttled"]
DrawnVerdict = Literal["slower", "faster", "same", "inconclusive"]


class Cell(Model):
    """One cell of a table; ``sort`` is the number that its text stands for, in the column's base unit."""

    text: str
    tone: Tone = "plain"
    sort: FiniteFloat | None = None


class Column(Model):
    """A column of a table; numbers are aligned to the right."""

    title: str
    numeric: bool = False


class Table(Model):
    """A table. The first cell of each row names the row; the notes below it say what it leaves out."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


class IntervalMark(Model):
    """A value and its interval, in the unit of the chart; no interval with one launch only."""

    label: str
    machine: str
    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    text: str


class IntervalChart(Model):
    """Horizontal points (or bars from zero) with whiskers, one row per experiment."""

    kind: Literal["points", "bars"]
    alt: str
    caption: str
    axis: str
    log_scale: bool
    machines: tuple[str, ...]
    marks: tuple[IntervalMark, ...]


class LinePoint(Model):
    """A point of a line: a whole number such as the batch size, a value and its interval."""

    line: str
    x: PositiveInt
    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None


class LineChart(Model):
    """Lines over a whole number, whose axis doubles from tick to tick when ``doubling``.

    With ``x_names`` the numbers, from 1, stand for these. Not ``from_zero``, the axis has room for what differs only.
    """

    kind: Literal["lines"] = "lines"
    alt: str
    caption: str
    x_axis: str
    doubling: bool
    axis: str
    log_scale: bool
    from_zero: bool = True
    x_names: tuple[str, ...] = ()
    points: tuple[LinePoint, ...]


class Share(Model):
    """A part (ratio, 0 to 1) of the row's whole."""

    label: str
    machine: str
    part: str
    ratio: FiniteFloat
    whole: str


class ShareChart(Model):
    """Stacked horizontal bars of equal length."""

    kind: Literal["shares"] = "shares"
    alt: str
    caption: str
    machines: tuple[str, ...]
    parts: tuple[str, ...]
    shares: tuple[Share, ...]


class SampleMark(Model):
    """One raw sample as a ratio to its row's median."""

    label: str
    machine: str
    launch: Count
    ratio: FiniteFloat
    kind: SampleKind


class SampleChart(Model):
    """Every raw sample."""

    kind: Literal["samples"] = "samples"
    alt: str
    caption: str
    axis: str
    log_scale: bool
    machines: tuple[str, ...]
    marks: tuple[SampleMark, ...]


class RatioMark(Model):
    """A ratio candidate / baseline with its interval, and the verdict on it."""

    label: str
    ratio: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    verdict: DrawnVerdict
    text: str


class RatioChart(Model):
    """Ratios around 1 with the margin as a band, a row per experiment; shape, colour and word tell the verdicts."""

    kind: Literal["ratios"] = "ratios"
    alt: str
    caption: str
    axis: str
    margin: FiniteFloat
    marks: tuple[RatioMark, ...]


Chart = Annotated[IntervalChart | LineChart | ShareChart | SampleChart | RatioChart, Field(discriminator="kind")]


class Section(Model):
    """A section of the page: paragraphs, charts, tables. Sections with more to say extend it."""

    name: str
    title: str
    template: str = "section.html.j2"
    paragraphs: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def is_bare(self) -> bool:
        """Whether a section has nothing to show, and only says why; the page names such sections at its end."""
        return type(self) is Section and not self.charts and not self.tables


class Card(Model):
    """A question, its answer in a few words, what belongs to it, and the section with the evidence."""

    question: str
    answer: str
    tone: Tone
    lines: tuple[str, ...]
    link_section: str
    link_text: str


class SummarySection(Section):
    """The answers."""

    template: str = "summary.html.j2"
    cards: tuple[Card, ...]


class DataColumn(Model):
    """A column of data: its distinct values (text, tone, number or None), and per row which of them it has."""

    title: str
    numeric: bool
    values: tuple[tuple[str, Tone, FiniteFloat | None], ...]
    index: tuple[Count, ...]


class ResultsSection(Section):
    """Every result: the first rows as a table, all of them as data that a script filters, sorts and saves."""

    template: str = "results.html.j2"
    columns: tuple[DataColumn, ...]


class RunName(Model):
    """A run of this page by its number, from 1."""

    number: PositiveInt
    name: str


class PairView(Model):
    """A candidate held against a baseline: the answer, ratios, verdicts, and what differs between the two."""

    baseline: PositiveInt
    candidate: PositiveInt
    title: str
    tone: Tone
    answer: str
    paragraphs: tuple[str, ...]
    chart: RatioChart | None
    verdicts: Table
    differences: Table | None


class CompareSection(Section):
    """Every pair of runs; the first is shown, the others behind folds, or one at a time where scripts run."""

    template: str = "compare.html.j2"
    runs: tuple[RunName, ...]
    pairs: tuple[PairView, ...]


class Detail(Model):
    """Text behind a fold."""

    title: str
    text: str


class FoldedSection(Section):
    """A section with texts behind folds."""

    template: str = "folded.html.j2"
    details: tuple[Detail, ...]


class Recipe(Model):
    """How to repeat one run."""

    machine: str
    command: str
    facts: Table
    manifest: Detail


class ReproduceSection(Section):
    """How to repeat it."""

    template: str = "reproduce.html.j2"
    recipes: tuple[Recipe, ...]


class Picture(Model):
    """An embedded image."""

    data_uri: str
    alt: str
    caption: str
    width: PositiveInt
    height: PositiveInt


class PictureGroup(Model):
    """Pictures that belong together, and one that moves."""

    title: str
    pictures: tuple[Picture, ...]
    animation: Picture | None


class ImageSection(Section):
    """The pictures that were made."""

    template: str = "images.html.j2"
    pictures: tuple[Picture, ...]


class PrecisionSection(Section):
    """How far candidates are from a reference: pictures of the last step, and animations behind folds."""

    template: str = "precision.html.j2"
    groups: tuple[PictureGroup, ...]


class ReportView(Model):
    """The whole page."""

    title: str
    subtitle: str
    notice: str | None
    sections: tuple[SerializeAsAny[Section], ...]
    footer: str
    seals: tuple[Sha256, ...]
