"""The typed view: everything a template or a chart needs, already worded, rounded and in order."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, SerializeAsAny

from sdbench.report.chart_model import Chart, RatioChart
from sdbench.report.escape import Address, LongText, Text
from sdbench.schema.base import Count, Model, PositiveInt, Sha256

# 20 KiB, the most that a picture on the page has.
_BASE64_CHARACTERS = 27_308

Tone = Literal["plain", "good", "warn", "bad", "muted"]


class Cell(Model):
    """One cell of a table; ``sort`` is the number it stands for, where its text is none."""

    text: Text
    tone: Tone = "plain"
    sort: FiniteFloat | None = None


class LinkedCell(Cell):
    """A cell that leads to a page of the same site."""

    link: Text


class Column(Model):
    """A column of a table; numbers are aligned to the right. ``key`` is its name in a saved file."""

    title: Text
    numeric: bool = False
    key: str = ""


class Table(Model):
    """A table. The first cell of each row names the row; the notes are below it."""

    caption: Text
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[Text, ...] = ()


class Link(Model):
    """A text that leads to another place, if its address is one that a page may link to."""

    text: Text
    address: Address | None


class Detail(Model):
    """Text behind a fold."""

    title: Text
    text: LongText


class EmbeddedImage(Model):
    """A small image: WebP as base64 text, its size in pixels."""

    webp_base64: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+=*$", max_length=_BASE64_CHARACTERS)]
    alt: Text
    caption: Text
    width: PositiveInt
    height: PositiveInt


class Section(Model):
    """A section of the page, which gives it name and title. Sections with content of other kinds extend it.

    Its pictures are behind a fold where ``pictures_fold`` names one.
    """

    name: Text = ""
    title: Text = ""
    template: Text = "section.html.j2"
    paragraphs: tuple[Text, ...] = ()
    links: tuple[Link, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[EmbeddedImage, ...] = ()
    pictures_fold: Text = ""
    details: tuple[Detail, ...] = ()

    @property
    def is_bare(self) -> bool:
        """Whether a section has nothing to show, and only the reason; the page names such sections at its end."""
        return type(self) is Section and not (self.charts or self.tables or self.pictures or self.details)


class Card(Model):
    """A question, its answer in a few words, what belongs to it, and the section with the evidence.

    ``commands`` are to be copied; ``remarks`` are what could not be checked, which says nothing against the answer.
    """

    question: Text
    answer: Text
    tone: Tone
    lines: tuple[Text, ...]
    commands: tuple[Text, ...] = ()
    remarks: tuple[Text, ...] = ()
    link_section: Text
    link_text: Text


class WarningLine(Model):
    """A cause of warnings: what was seen, where, and what to do."""

    tone: Tone
    what: Text
    where: Text
    hint: Text


class SummarySection(Section):
    """The first screen: what was found in one sentence, the charts of it, the answers, and the warnings by cause."""

    template: Text = "summary.html.j2"
    headline: Text
    tone: Tone
    lead: tuple[Text, ...]
    cards: tuple[Card, ...]
    warnings: tuple[WarningLine, ...]


class DataColumn(Column):
    """A column of data: its distinct values (text, tone, number or None), and per row which of them it has.

    In a saved file its numbers are in the SI unit that ends its ``key``.
    """

    values: tuple[tuple[Text, Tone, FiniteFloat | None], ...]
    index: tuple[Count, ...]


class ResultsSection(Section):
    """Every result: the first rows as a table, all of them as data that a script filters, sorts and saves."""

    template: Text = "results.html.j2"
    columns: tuple[DataColumn, ...]


class PairView(Model):
    """A candidate compared with a baseline: the answer, ratios, verdicts, and what differs between the two."""

    baseline: PositiveInt
    candidate: PositiveInt
    title: Text
    tone: Tone
    answer: Text
    paragraphs: tuple[Text, ...]
    chart: RatioChart | None
    verdicts: Table
    differences: Table | None


class CompareSection(Section):
    """Every pair of runs; the first is shown, the others behind folds, or one at a time where scripts run.

    ``runs`` are the numbers, from 1, and names of the runs of this page.
    """

    template: Text = "compare.html.j2"
    runs: tuple[tuple[PositiveInt, Text], ...]
    pairs: tuple[PairView, ...]


class Recipe(Model):
    """How to repeat a run, or runs that one command gives again: a table of facts for each, and their manifests."""

    title: Text
    command: Text
    facts: tuple[Table, ...]
    manifests: tuple[Detail, ...]


class ReproduceSection(Section):
    """How to repeat it."""

    template: Text = "reproduce.html.j2"
    recipes: tuple[Recipe, ...]


class PictureStep(Model):
    """Pictures of one moment side by side."""

    label: Text
    pictures: tuple[EmbeddedImage, ...]


class PictureSeries(Model):
    """Pictures step by step; the last is shown, the others behind a fold, or each at a slider where scripts run."""

    title: Text
    steps: tuple[PictureStep, ...]


class PrecisionSection(Section):
    """How far candidates are from a reference, with pictures step by step."""

    template: Text = "precision.html.j2"
    series: tuple[PictureSeries, ...]


class Chapter(Model):
    """Sections that answer one question; those with nothing to show are named at the page's end."""

    name: Text
    title: Text
    sections: tuple[SerializeAsAny[Section], ...]

    @property
    def shown(self) -> tuple[Section, ...]:
        """The sections that have something to show."""
        return tuple(section for section in self.sections if not section.is_bare)


class ReportView(Model):
    """The whole page."""

    title: Text
    subtitle: Text
    warning: Text | None
    chapters: tuple[Chapter, ...]
    seals: tuple[Sha256, ...]

    @property
    def sections(self) -> tuple[Section, ...]:
        """The sections of all chapters, in order."""
        return tuple(section for chapter in self.chapters for section in chapter.sections)


class SiteView(Model):
    """The index of a site."""

    title: Text
    subtitle: Text
    comparison: Text | None
    chart: Chart | None
    numbers: Table
    machines: Table
    runs: Table
