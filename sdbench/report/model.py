"""The typed view: everything a template or a chart needs, already worded, rounded and in order."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, SerializeAsAny

from sdbench.report.chart_model import Chart, RatioChart
from sdbench.report.safe_text import Address, LongText, Text
from sdbench.schema.base import Count, Model, PositiveInt, Sha256

# 20 KiB, the most that a picture on the page has.
_BASE64_CHARACTERS = 27_308

Tone = Literal["plain", "good", "bad", "muted"]


class Cell(Model):
    """One cell of a table; ``sort`` is the number it stands for, where its text is none."""

    text: Text
    tone: Tone = "plain"
    sort: FiniteFloat | None = None


class Column(Model):
    """A column of a table; numbers are aligned to the right."""

    title: Text
    numeric: bool = False


class Table(Model):
    """A table. The first cell of each row names the row; the notes below it say what it leaves out."""

    caption: Text
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[Text, ...] = ()


class Link(Model):
    """A text that leads to another place, if its address is one that a page may link to."""

    text: Text
    address: Address | None


class Section(Model):
    """A section of the page: paragraphs, charts, tables. Sections with more to say extend it."""

    name: Text
    title: Text
    template: Text = "section.html.j2"
    paragraphs: tuple[Text, ...] = ()
    links: tuple[Link, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def is_bare(self) -> bool:
        """Whether a section has nothing to show, and only says why; the page names such sections at its end."""
        return type(self) is Section and not self.charts and not self.tables


class Card(Model):
    """A question, its answer in a few words, what belongs to it, and the section with the evidence."""

    question: Text
    answer: Text
    tone: Tone
    lines: tuple[Text, ...]
    link_section: Text
    link_text: Text


class SummarySection(Section):
    """The answers."""

    template: Text = "summary.html.j2"
    cards: tuple[Card, ...]


class DataColumn(Model):
    """A column of data: its distinct values (text, tone, number or None), and per row which of them it has.

    ``key`` is its name in a saved file, where its numbers are in the SI unit that ends the name.
    """

    title: Text
    key: Text
    numeric: bool
    values: tuple[tuple[Text, Tone, FiniteFloat | None], ...]
    index: tuple[Count, ...]


class ResultsSection(Section):
    """Every result: the first rows as a table, all of them as data that a script filters, sorts and saves."""

    template: Text = "results.html.j2"
    columns: tuple[DataColumn, ...]


class RunName(Model):
    """A run of this page by its number, from 1."""

    number: PositiveInt
    name: Text


class PairView(Model):
    """A candidate held against a baseline: the answer, ratios, verdicts, and what differs between the two."""

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
    """Every pair of runs; the first is shown, the others behind folds, or one at a time where scripts run."""

    template: Text = "compare.html.j2"
    runs: tuple[RunName, ...]
    pairs: tuple[PairView, ...]


class Detail(Model):
    """Text behind a fold."""

    title: Text
    text: LongText


class FoldedSection(Section):
    """A section with texts behind folds."""

    template: Text = "folded.html.j2"
    details: tuple[Detail, ...]


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


class Picture(Model):
    """A small image: WebP as base64 text, its size in pixels."""

    webp_base64: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+=*$", max_length=_BASE64_CHARACTERS)]
    alt: Text
    caption: Text
    width: PositiveInt
    height: PositiveInt


class PictureStep(Model):
    """Pictures of one moment side by side."""

    label: Text
    pictures: tuple[Picture, ...]


class PictureSeries(Model):
    """Pictures step by step; the last is shown, the others behind a fold, or each at a slider where scripts run."""

    title: Text
    fold: Text
    steps: tuple[PictureStep, ...]


class ImageSection(Section):
    """The pictures that were made."""

    template: Text = "images.html.j2"
    pictures: tuple[Picture, ...]


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
    notice: Text | None
    chapters: tuple[Chapter, ...]
    footer: Text
    seals: tuple[Sha256, ...]

    @property
    def sections(self) -> tuple[Section, ...]:
        """The sections of all chapters, in order."""
        return tuple(section for chapter in self.chapters for section in chapter.sections)


class LinkedRow(Model):
    """A row of a site's index; its first cell leads to ``link``, its last to ``last_link``, pages of the same site."""

    link: Text
    last_link: Text | None = None
    cells: tuple[Cell, ...]


class SiteView(Model):
    """The index of a site."""

    title: Text
    subtitle: Text
    comparison: Text | None
    machine_columns: tuple[Text, ...]
    machines: tuple[LinkedRow, ...]
    run_columns: tuple[Text, ...]
    runs: tuple[LinkedRow, ...]
