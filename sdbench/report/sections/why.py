"""Why? What the difference between two runs is made of: phases, operators, and what else differs."""

from collections.abc import Iterator, Sequence

from sdbench.compare.comparison import ExperimentComparison
from sdbench.compare.why import Why, WhyPart
from sdbench.compare.why_table import WHY_COLUMNS, describe_unchanged, find_changed, format_share, make_why_rows
from sdbench.report.chart_model import ChangeChart, ChangeMark
from sdbench.report.format import TONES, Row, cell, make_table, numbers, texts
from sdbench.report.model import Section, Table
from sdbench.report.sections.compare import with_page_labels
from sdbench.report.series import Compared, Source
from sdbench.units import format_count

TITLE = "What makes the difference"
# A chart and its table take about 16 KB.
_DRAWN, _SENTENCES = 6, 20
_MS_PER_S = 1e3
_NOTE = (
    "Up to five calls of the first launch are profiled, after the timed ones. Their tables are brought to the timed "
    "latencies, phase by phase, and without the profiler's cost, so that the changes add up to the difference."
)


def build(source: Source) -> Section | str:
    """Return for each experiment that changed between the first run and each later one what changed in it."""
    pairs = [pair for pair in source.compared if pair.baseline.number < pair.candidate.number]
    if not pairs:
        return "There is one run with samples on this page: there is no difference to explain."
    changed = [(pair, item) for pair in pairs for item in find_changed(with_page_labels(source, pair.comparison))]
    if not changed:
        return describe_unchanged(pairs[0].comparison)
    several = len(pairs) > 1
    named = [(_name(pair, item, several=several), item.why) for pair, item in changed]
    drawn = [(name, why) for name, why in named if why.rows][:_DRAWN]
    return Section(
        paragraphs=tuple(_paragraphs(named, len(drawn))),
        charts=tuple(_chart(name, why, "" if _is_one_sentence(named) else why.sentence) for name, why in drawn),
        tables=(*_sentences(changed, named), *(_table(name, why) for name, why in drawn)),
    )


def _name(pair: Compared, item: ExperimentComparison, *, several: bool) -> str:
    return f"{item.label}, {pair.candidate.name}" if several else item.label


def _is_one_sentence(named: Sequence[tuple[str, Why]]) -> bool:
    """Whether a sentence says it all; what is not explained is a grey cell of a table, as of several experiments."""
    return len(named) == 1 and named[0][1].status != "not explained"


def _paragraphs(named: Sequence[tuple[str, Why]], drawn_count: int) -> Iterator[str]:
    if _is_one_sentence(named):
        yield named[0][1].sentence
        if remarks := named[0][1].remarks:
            yield f"In addition: {'; '.join(remarks)}."
    if drawn_count:
        yield _NOTE
    with_rows = sum(bool(why.rows) for _, why in named)
    if with_rows > drawn_count:
        more = format_count(with_rows - drawn_count, "experiment")
        yield f"Drawn are the {drawn_count} largest changes; sdbench compare --why prints {more} more."


def _sentences(
    changed: Sequence[tuple[Compared, ExperimentComparison]], named: Sequence[tuple[str, Why]]
) -> tuple[Table, ...]:
    """The sentence of each experiment; what is not explained is grey."""
    if _is_one_sentence(named):
        return ()
    rows: list[Row] = []
    for (_, item), (name, why) in zip(changed[:_SENTENCES], named, strict=False):
        verdict = item.judgements[0].verdict
        words = "; ".join((why.sentence, *why.remarks))
        shown = cell(words, "muted" if why.status == "not explained" else "plain")
        rows.append((name, cell(verdict, TONES.get(verdict, "plain")), shown))
    more = len(named) - len(rows)
    notes = [f"{format_count(more, 'smaller change')}: sdbench compare --why --json has them."] if more > 0 else []
    return (make_table("Why, the slower first", texts("Experiment", "Verdict", "Why"), rows, notes),)


def _chart(name: str, why: Why, sentence: str) -> ChangeChart:
    marks = [_mark(f"{part.phase}: {part.name}", part.change_s, part.share) for part in why.rows]
    if why.others_s:
        marks.append(_mark("all others", why.others_s, why.others_s / why.difference_s))
    whole = _mark("the call", why.difference_s, 1.0).model_copy(update={"kind": "whole"})
    return ChangeChart(
        title=name,
        alt="; ".join(f"{mark.label} {mark.text}" for mark in (*marks, whole)),
        caption=f"{sentence + '. ' if sentence else ''}What each operator adds to a call; grey: the whole difference.",
        axis="change, ms a call",
        marks=(*marks, whole),
    )


def _mark(label: str, change_s: float, share: float) -> ChangeMark:
    return ChangeMark(
        label=label,
        value=_MS_PER_S * change_s,
        kind="longer" if change_s >= 0 else "shorter",
        text=f"{_MS_PER_S * change_s:+.2f} ms, {format_share(share)}",
    )


def _table(name: str, why: Why) -> Table:
    notes = [f"By phase: {_list(why.phases)}.", f"By kind: {_list(why.families)}."]
    columns = (*texts(*WHY_COLUMNS[:2]), *numbers(*WHY_COLUMNS[2:]))
    return make_table(f"Operators: {name}", columns, make_why_rows(why), notes)


def _list(parts: Sequence[WhyPart]) -> str:
    return ", ".join(f"{part.name} {format_share(part.share)}" for part in parts)
