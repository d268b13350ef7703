"""Did the change matter? Every pair of runs with ratios, verdicts, and what differs between the two."""

from math import log

from sdbench.compare.comparison import Comparison, ExperimentComparison
from sdbench.compare.verdicts import BY_WEIGHT
from sdbench.compare.wording import (
    METRIC_NAMES,
    explain,
    format_change,
    format_interval,
    format_units,
    headline,
    name_verdict,
)
from sdbench.report.chart_model import RatioChart, RatioMark
from sdbench.report.model import Cell, CompareSection, PairView, RunName, Section, Table
from sdbench.report.pairs import PAIRS, RUNS_IN_ALL_PAIRS, comparable_runs
from sdbench.report.points import Compared, Source
from sdbench.report.text import NONE, TONES, UNKNOWN, cell, format_count, list_some, make_table, shorten_hashes

TITLE = "Run against run"
# More rows than these say nothing on a page: the most telling ones are shown, `sdbench compare` has all.
_CHART_ROWS, _TABLE_ROWS, _DIFFERENCE_ROWS = 30, 20, 30
_NOTHING = "There is one run with samples on this page. Name two to compare them: sdbench report BASELINE CANDIDATE"
_MARKS = {"slower": "▲", "more": "▲", "faster": "▼", "less": "▼", "same": "●", "inconclusive": "◆"}


def build(source: Source) -> Section:
    """Return a view per pair of runs."""
    runs = comparable_runs(source)
    if not source.compared:
        return Section(name="compare", title=TITLE, paragraphs=(_NOTHING,))
    names = {number: machine.name for number, machine in runs}
    labels = {point.planned.experiment_id: point.label for point in source.points}
    paragraphs: tuple[str, ...] = ()
    if len(runs) > RUNS_IN_ALL_PAIRS:
        which = "each" if len(runs) <= PAIRS + 1 else f"each of the next {PAIRS}"
        paragraphs = (f"{len(runs)} runs: {which} is held against the first. Name fewer to see all pairs.",)
    return CompareSection(
        name="compare",
        title=TITLE,
        paragraphs=paragraphs,
        runs=tuple(RunName(number=number, name=f"{number}: {name}") for number, name in names.items()),
        pairs=tuple(_pair(found, names, labels) for found in source.compared),
    )


def _pair(found: Compared, names: dict[int, str], labels: dict[str, str]) -> PairView:
    comparison = found.comparison
    # The page's labels tell apart what the plan's do not; two sides of a session have a label of their own.
    named = [item.model_copy(update={"label": labels[item.experiment_id]}) for item in comparison.experiments]
    if not comparison.treatments:
        comparison = comparison.model_copy(update={"experiments": tuple(named)})
    ranked = sorted(comparison.experiments, key=_weight)
    drawn = [item for item in ranked if item.judgements[0].ratio is not None]
    return PairView(
        baseline=found.baseline,
        candidate=found.candidate,
        title=f"{names[found.candidate]} compared with {names[found.baseline]}",
        tone=TONES.get(comparison.verdict, "plain"),
        answer=headline(comparison),
        paragraphs=_remarks(comparison),
        chart=_chart(comparison, drawn) if drawn else None,
        verdicts=_verdicts(ranked),
        differences=_differences(comparison),
    )


def _weight(item: ExperimentComparison) -> tuple[int, float]:
    """The order of telling: by verdict, and the largest change first."""
    judgement = item.judgements[0]
    return BY_WEIGHT.index(judgement.verdict), -abs(log(judgement.ratio)) if judgement.ratio else 0.0


def _remarks(comparison: Comparison) -> tuple[str, ...]:
    found = [f"What differs: {shorten_hashes(comparison.attribution)}."]
    found += [f"Set by the {treatment}." for treatment in comparison.treatments]
    lone = [f"{item.label} (only in the {item.side})" for item in comparison.unmatched]
    lone += [f"{label} (skipped on both sides)" for label in comparison.on_neither]
    if lone:
        found.append(f"Not compared: {list_some(lone)}.")
    return tuple(found)


def _chart(comparison: Comparison, drawn: list[ExperimentComparison]) -> RatioChart:
    shown = drawn[:_CHART_ROWS]
    rest = f" {format_count(len(drawn) - len(shown), 'smaller change')} not drawn." if len(drawn) > len(shown) else ""
    return RatioChart(
        alt="Latency ratios of candidate to baseline with their intervals; the table below has the same figures",
        caption=f"Latency, candidate / baseline, with {1 - comparison.alpha:.0%} intervals. Grey band: the margin of "
        f"{comparison.margin:.0%}, too small to matter. Right of 1 is slower. A triangle at the frame: the interval "
        f"goes on beyond it.{rest}",
        axis="candidate / baseline",
        margin=comparison.margin,
        marks=tuple(
            RatioMark.model_validate(
                {
                    "label": item.label,
                    "ratio": judgement.ratio,
                    "low": judgement.low,
                    "high": judgement.high,
                    "verdict": judgement.verdict,
                    "text": f"{judgement.verdict} {format_change(judgement.ratio)}",
                }
            )
            for item in shown
            if (judgement := item.judgements[0]).ratio is not None
        ),
    )


def _verdicts(ranked: list[ExperimentComparison]) -> Table:
    rows = [row for item in ranked[:_TABLE_ROWS] for row in _rows(item)]
    table = make_table("Verdicts", "Experiment|What|Verdict|#Change|#Interval|From|Why, and what would tell", rows)
    if len(ranked) <= _TABLE_ROWS:
        return table
    note = f"{format_count(len(ranked) - _TABLE_ROWS, 'experiment')} more: sdbench compare shows all of them."
    return Table(caption=table.caption, columns=table.columns, rows=table.rows, notes=(note,))


def _rows(item: ExperimentComparison) -> list[tuple[Cell | str, ...]]:
    shown = [judgement for judgement in item.judgements if judgement.verdict != "incomparable"] or item.judgements[:1]
    return [
        (
            item.label,
            METRIC_NAMES[judgement.metric],
            _verdict_cell(name_verdict(judgement)),
            NONE if judgement.ratio is None else format_change(judgement.ratio),
            NONE if judgement.low is None else format_interval(judgement),
            format_units(judgement) or NONE,
            explain(judgement) or NONE,
        )
        for judgement in shown
    ]


def _verdict_cell(word: str) -> Cell:
    return cell(f"{_MARKS.get(word, '✗')} {word}", TONES.get(word, "plain"))


def _differences(comparison: Comparison) -> Table | None:
    found = [item for item in comparison.differences if item.part != "state"]
    if not found:
        return None
    rows = [
        (item.field, *(f"{UNKNOWN}{item.why}" if side is None else side for side in (item.baseline, item.candidate)))
        for item in found[:_DIFFERENCE_ROWS]
    ]
    table = make_table("What differs, the likeliest reason first", "Field|Baseline|Candidate", rows)
    if len(found) <= _DIFFERENCE_ROWS:
        return table
    note = f"{format_count(len(found) - _DIFFERENCE_ROWS, 'field')} more: sdbench diff shows all of them."
    return Table(caption=table.caption, columns=table.columns, rows=table.rows, notes=(note,))
