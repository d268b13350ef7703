"""Did the change matter? Every pair of runs with ratios, verdicts, and what differs between the two."""

from collections.abc import Iterator
from itertools import permutations
from math import log

from sdbench.compare.comparison import Comparison, ExperimentComparison, compare_records
from sdbench.compare.policy import BY_WEIGHT, MARGIN, Judgement
from sdbench.compare.wording import (
    describe_useless_interval,
    explain,
    explain_adjustment,
    format_change,
    format_units,
    has_useful_interval,
    headline,
    name_ratio,
    other_ratios,
)
from sdbench.report.chart_model import RatioChart, RatioMark
from sdbench.report.escape import clean
from sdbench.report.format import (
    TONES,
    UNKNOWN,
    Row,
    limit_rows,
    list_some,
    make_table,
    numbers,
    shorten_hashes,
    texts,
    verdict_cells,
)
from sdbench.report.labels import split_labels
from sdbench.report.model import CompareSection, PairView, Section, Table
from sdbench.report.series import OPEN_ENDS, Compared, Machine, Source
from sdbench.units import format_count

TITLE = "Run against run"
# More rows than these cannot be read on a page: the largest changes are shown, `sdbench compare` prints all.
_CHART_ROWS, _TABLE_ROWS, _DIFFERENCE_ROWS, _FIRST_SCREEN_ROWS = 30, 20, 30, 8
_NOTHING = "There is one run with samples on this page. Compare two with: sdbench report BASELINE CANDIDATE"
_VERDICT_COLUMNS = (
    *texts("Experiment", "What", "Verdict"),
    *numbers("Change", "Interval"),
    *texts("From", "Why, and what would decide"),
)
# All pairs of so many runs are shown; of more, each against the first, up to as many pairs.
_RUNS_IN_ALL_PAIRS = 6
_PAIRS = _RUNS_IN_ALL_PAIRS * (_RUNS_IN_ALL_PAIRS - 1)


def _runs_with_samples(source: Source) -> list[Machine]:
    return [machine for machine in source.machines if machine.record.origin != "imported"]


def compare_runs(source: Source) -> tuple[Compared, ...]:
    """Return the comparisons of a page: first the last run of a machine against its first, then every other pair."""
    runs = _runs_with_samples(source)
    pairs = list(permutations(runs, 2))
    if len(runs) > _RUNS_IN_ALL_PAIRS:
        pairs = [(runs[0], run) for run in runs[1 : _PAIRS + 1]]
    pairs.sort(
        key=lambda pair: (pair[0].record.machine_key != pair[1].record.machine_key, pair[0].number - pair[1].number)
    )
    known = [run.record for run in runs]
    return tuple(Compared(a, b, compare_records([a.record], [b.record], MARGIN, known=known)) for a, b in pairs)


def build(source: Source) -> Section | str:
    """Return a view per pair of runs."""
    runs = _runs_with_samples(source)
    if not source.compared:
        return _NOTHING
    paragraphs: tuple[str, ...] = ()
    if len(runs) > _RUNS_IN_ALL_PAIRS:
        which = "each" if len(runs) <= _PAIRS + 1 else f"each of the next {_PAIRS}"
        paragraphs = (f"{len(runs)} runs: {which} is compared with the first. Name fewer to see all pairs.",)
    return CompareSection(
        paragraphs=paragraphs,
        runs=tuple((run.number, run.name) for run in runs),
        pairs=tuple(_pair(source, compared) for compared in source.compared),
    )


def first_pair_chart(source: Source) -> RatioChart | None:
    """Return the ratios of the first pair, the largest changes first; the section below has all of them."""
    if not source.compared:
        return None
    first = source.compared[0]
    comparison = with_page_labels(source, first.comparison)
    return _chart(comparison, sorted(comparison.experiments, key=_rank)[:_FIRST_SCREEN_ROWS])


def with_page_labels(source: Source, comparison: Comparison) -> Comparison:
    """Return the comparison with the labels of this page; a row of two arms is named by what these share."""
    if not comparison.treatments:
        return source.relabel(comparison)
    # What a run varies and the plan does not name.
    more = {
        point.planned.experiment_id: point.label.removeprefix(clean(point.planned.label)) for point in source.points
    }
    named = [
        item.model_copy(update={"label": _shared_words(item.label) + more.get(item.experiment_id, "")})
        for item in comparison.experiments
    ]
    return comparison.model_copy(update={"experiments": tuple(named)})


def _shared_words(label: str) -> str:
    """What the two names of an experiment in ``A / B`` share: the arms' names say how they differ."""
    names = label.split(" / ")
    shared, _ = split_labels(names)
    return shared or names[0]


def _pair(source: Source, compared: Compared) -> PairView:
    baseline, candidate = compared.baseline, compared.candidate
    comparison = with_page_labels(source, compared.comparison)
    ranked = sorted(comparison.experiments, key=_rank)
    rows = (row for item in ranked[:_TABLE_ROWS] for row in _rows(item))
    note = f"The first {_TABLE_ROWS} of {len(ranked):,} experiments; sdbench compare shows the others."
    return PairView(
        baseline=baseline.number,
        candidate=candidate.number,
        title=f"{candidate.name} compared with {baseline.name}",
        tone=TONES.get(comparison.verdict, "plain"),
        answer=headline(comparison),
        paragraphs=tuple(_remarks(comparison)),
        chart=_chart(comparison, ranked),
        verdicts=make_table("Verdicts", _VERDICT_COLUMNS, rows, [note] if len(ranked) > _TABLE_ROWS else []),
        differences=_differences(comparison),
    )


def _rank(item: ExperimentComparison) -> tuple[int, float]:
    judgement = item.judgements[0]
    return BY_WEIGHT.index(judgement.verdict), -abs(log(judgement.ratio)) if judgement.ratio else 0.0


def _remarks(comparison: Comparison) -> Iterator[str]:
    yield f"What differs: {shorten_hashes(comparison.attribution)}."
    if comparison.machine:
        yield f"{comparison.machine[0].upper()}{comparison.machine[1:]}."
    yield from (f"Set by the {treatment}." for treatment in comparison.treatments)
    lone = [f"{item.label} (only in the {item.role})" for item in comparison.unmatched]
    lone += [f"{label} (skipped in both)" for label in comparison.on_neither]
    if lone:
        yield f"Not compared: {list_some(lone)}."


def _chart(comparison: Comparison, ranked: list[ExperimentComparison]) -> RatioChart | None:
    judged = [(item.label, judgement) for item in ranked if (judgement := item.judgements[0]).ratio is not None]
    shared, own = split_labels([label for label, _ in judged])
    if not judged:
        return None
    more = len(judged) - _CHART_ROWS
    rest = f" {format_count(more, 'smaller change')} not drawn." if more > 0 else ""
    marks = tuple(_mark(own[label], judgement) for label, judgement in judged[:_CHART_ROWS])
    open_words = f" {OPEN_ENDS}" if any(mark.is_open for mark in marks) else ""
    return RatioChart(
        title=f"Latency: {shared}" if shared else "Latency",
        alt="Latency ratios of candidate to baseline with their intervals; the table below has the same values",
        caption=f"Latency, candidate / baseline, with {1 - comparison.alpha:.0%} intervals. Grey band: the margin of "
        f"{comparison.margin:.0%}, too small to matter. Right of 1 is slower. A triangle at the frame: the interval "
        f"extends beyond it.{open_words}{rest}",
        axis="candidate / baseline",
        margin=comparison.margin,
        marks=marks,
    )


def _mark(label: str, judgement: Judgement) -> RatioMark:
    ends = judgement.model_dump(include={"ratio", "low", "high", "verdict"})
    words = f"{judgement.verdict} {format_change(ends['ratio'])}"
    if has_useful_interval(judgement):
        return RatioMark(label=label, text=words, **ends)
    ends |= {"low": None, "high": None}
    return RatioMark(label=label, text=f"{words} ({describe_useless_interval(judgement)})", is_open=True, **ends)


def _rows(item: ExperimentComparison) -> Iterator[Row]:
    shown = [judgement for judgement in item.judgements if judgement.verdict != "incomparable"] or item.judgements[:1]
    for judgement in shown:
        reasons = "; ".join(filter(None, (explain(judgement), explain_adjustment(judgement))))
        units = format_units(judgement) or None
        yield (item.label, name_ratio(judgement), *verdict_cells(judgement), units, reasons or None)
        for title, change, interval, reference in other_ratios(judgement):
            yield (item.label, title, None, change, interval, reference, None)


def _differences(comparison: Comparison) -> Table | None:
    rows = [
        (item.field, *(f"{UNKNOWN}{item.why}" if value is None else value for value in (item.baseline, item.candidate)))
        for item in comparison.differences
        if item.part != "state"
    ]
    if not rows:
        return None
    table = make_table("What differs, the likeliest reason first", texts("Field", "Baseline", "Candidate"), rows)
    return limit_rows(table, _DIFFERENCE_ROWS, "sdbench diff shows the others")
