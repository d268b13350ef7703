"""The typed view: everything a template or a chart needs, already worded, rounded and in order."""

from typing import Literal

from pydantic import FiniteFloat, SerializeAsAny

from sdbench.report.chart_model import Chart, RatioChart
from sdbench.report.safe_text import Text
from sdbench.schema.base import Count, Model, PositiveInt, Sha256

Tone = Literal["plain", "good", "bad", "muted"]


class Cell(Model):
    """One cell of a table; ``sort`` is the number that its text stands for, in the column's base unit."""

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


class Section(Model):
    """A section of the page: paragraphs, charts, tables. Sections with more to say extend it."""

    name: Text
    title: Text
    template: Text = "section.html.j2"
    paragraphs: tuple[Text, ...] = ()
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
    """A column of data: its distinct values (text, tone, number or None), and per row which of them it has."""

    title: Text
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
    text: Text


class FoldedSection(Section):
    """A section with texts behind folds."""

    template: Text = "folded.html.j2"
    details: tuple[Detail, ...]


class Recipe(Model):
    """How to repeat one run."""

    machine: Text
    command: Text
    facts: Table
    manifest: Detail


class ReproduceSection(Section):
    """How to repeat it."""

    template: Text = "reproduce.html.j2"
    recipes: tuple[Recipe, ...]


class Picture(Model):
    """An embedded image."""

    data_uri: Text
    alt: Text
    caption: Text
    width: PositiveInt
    height: PositiveInt


class PictureGroup(Model):
    """Pictures that belong together, and one that moves."""

    title: Text
    pictures: tuple[Picture, ...]
    animation: Picture | None


class ImageSection(Section):
    """The pictures that were made."""

    template: Text = "images.html.j2"
    pictures: tuple[Picture, ...]


class PrecisionSection(Section):
    """How far candidates are from a reference: pictures of the last step, and animations behind folds."""

    template: Text = "precision.html.j2"
    groups: tuple[PictureGroup, ...]


class ReportView(Model):
    """The whole page."""

    title: Text
    subtitle: Text
    notice: Text | None
    sections: tuple[SerializeAsAny[Section], ...]
    footer: Text
    seals: tuple[Sha256, ...]


class LinkedRow(Model):
    """A row of a site's index; its first cell leads to ``link``, a page of the same site."""

    link: Text
    cells: tuple[Cell, ...]


class SiteView(Model):
    """The index of a site."""

    title: Text
    subtitle: Text
    machine_columns: tuple[Text, ...]
    machines: tuple[LinkedRow, ...]
    run_columns: tuple[Text, ...]
    runs: tuple[LinkedRow, ...]
