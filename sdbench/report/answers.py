"""What one image takes on this page's machines and on reference machines: 512x512, 50 steps of SD v1.4."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sdbench.compare.references import QUESTION, StudyAnswer, answer_of, references_like
from sdbench.report.chart_model import AnswerChart, AnswerMark, AnswerRole
from sdbench.report.format import describe_useless_interval
from sdbench.report.naming import shorten_device
from sdbench.report.series import OPEN_ENDS, Interval, Machine, Measured, Source, needs_log_scale
from sdbench.schema.experiment import STUDY_STEPS, Experiment
from sdbench.units import format_duration, round_significant

IMAGE = f"512x512 image, {STUDY_STEPS} steps of SD v1.4"
_ROWS = 12
_DIGITS = 3
_ABOUT_SAME = 1.005
AS_FAST = "as fast"


@dataclass(frozen=True)
class Row:
    """One image on one machine (s): measured or projected here, or published by others.

    ``caveat`` says why a projection is rougher than its interval.
    """

    name: str
    experiment: Experiment
    interval: Interval
    role: AnswerRole
    why_open: str | None = None
    caveat: str | None = None

    @property
    def latency_s(self) -> float:
        """The seconds that one image takes."""
        return self.interval.value

    @property
    def precision(self) -> str:
        """The precision in words: ``fp32``, ``fp16 autocast``, ``fp32 onnxruntime``."""
        experiment = self.experiment
        autocast = "" if experiment.autocast == "off" else " autocast"
        backend = "" if experiment.backend == "pytorch" else f" {experiment.backend}"
        return f"{experiment.precision}{autocast}{backend}"


def own_rows(source: Source) -> list[Row]:
    """Return the rows of the machines that this page measured: of each precision the fastest, measured if possible."""
    best: dict[tuple[str, str], tuple[bool, Row]] = {}
    for machine, answer in _own_answers(source):
        row = _own_row(machine, answer)
        key = (row.name, row.precision)
        if key not in best or (answer.is_projected, row.latency_s) < (best[key][0], best[key][1].latency_s):
            best[key] = (answer.is_projected, row)
    return sorted((row for _, row in best.values()), key=lambda row: row.latency_s)


def reference_rows(source: Source) -> list[Row]:
    """Return a row per reference machine: those named on the page, else the 2022 study's in the nearest precision."""
    if any(machine.record.origin == "imported" for machine in source.machines):
        return _named_rows(source.measured)
    own = own_rows(source)
    if not own or not source.with_references:
        return []
    references = references_like(own[0].experiment)
    return [
        Row(f"{shorten_device(item.device_name)}, {item.year}", item.experiment, Interval(item.latency_s), "reference")
        for item in references
    ]


def answer_chart(source: Source) -> AnswerChart | None:
    """Return the chart of all rows, the fastest first; None where there is nothing to compare."""
    own, references = own_rows(source), reference_rows(source)
    rows = sorted([*own, *references], key=lambda row: row.latency_s)
    if len(rows) < 2:  # noqa: PLR2004 - a single row compares nothing
        return None
    rows = [row for row in rows if row in own or row in rows[:_ROWS]]
    base = min(own or rows, key=lambda row: row.latency_s)
    names = Counter(row.name for row in rows)
    marks = tuple(_mark(row, base, is_own=bool(own), is_alone=names[row.name] == 1) for row in rows)
    ends = [end for row in rows for end in row.interval if end is not None]
    return AnswerChart(
        title=f"How long does one {IMAGE} take?",
        alt=f"Seconds for one {IMAGE}: " + "; ".join(f"{mark.label} {mark.text} {mark.remark}" for mark in marks),
        caption=" ".join(_caption(rows)),
        axis="seconds per image",
        log_scale=needs_log_scale(ends),
        marks=marks,
    )


def compare_times(own: Row, other: Row) -> str:
    """Return how much slower or faster one's own is: ``261x slower``."""
    ratio = own.latency_s / other.latency_s
    if 1 / _ABOUT_SAME < ratio < _ABOUT_SAME:
        return AS_FAST
    return f"{round_significant(max(ratio, 1 / ratio), _DIGITS)}x {'slower' if ratio > 1 else 'faster'}"


def _own_answers(source: Source) -> Iterator[tuple[Machine, StudyAnswer]]:
    for machine in source.machines:
        if machine.record.origin == "measured":
            for result in machine.record.results:
                answer = answer_of(result)
                if answer is not None and answer.experiment.batch == 1:
                    yield machine, answer


def _own_row(machine: Machine, answer: StudyAnswer) -> Row:
    estimate = answer.estimate
    ends = (estimate.low, estimate.high) if estimate.is_useful else ()
    return Row(
        machine.name,
        answer.experiment,
        Interval(estimate.value, *ends),
        "projected" if answer.is_projected else "measured",
        None if estimate.is_useful else describe_useless_interval(estimate),
        answer.caveat,
    )


def _named_rows(measured: Sequence[Measured]) -> list[Row]:
    """The fastest result of one image of each reference machine that is on the page."""
    best: dict[str, Measured] = {}
    for point in sorted(measured, key=lambda point: point.estimate.value):
        if point.is_reference and point.experiment.has(QUESTION | {"steps": STUDY_STEPS, "batch": 1}):
            best.setdefault(point.machine.name, point)
    return [
        Row(shorten_device(name), point.experiment, Interval(point.estimate.value), "reference")
        for name, point in best.items()
    ]


def _mark(row: Row, base: Row, *, is_own: bool, is_alone: bool) -> AnswerMark:
    value = f"{format_duration(row.latency_s)} {row.precision}"
    of_base = "" if is_own else "the fastest"
    remark = of_base if row is base else compare_times(row, base)
    words = f"about {value}, projected" if row.role == "projected" else value
    if row.why_open:
        words += f", {row.why_open}"
    return AnswerMark(
        label=row.name if is_alone else f"{row.name}, {row.precision}",
        is_open=row.why_open is not None,
        role=row.role,
        text=words,
        remark=remark,
        **row.interval._asdict(),
    )


def _caption(rows: list[Row]) -> Iterator[str]:
    roles = {row.role for row in rows}
    if "reference" in roles:
        yield "Grey: published results of others, one number each, without samples."
    if "projected" in roles:
        yield f"Hollow: projected to {STUDY_STEPS} steps from the phases of fewer, not measured."
    if any(row.interval.low is not None for row in rows):
        yield "Whiskers: the interval over the launches."
    if any(row.why_open for row in rows):
        yield OPEN_ENDS
    if needs_log_scale([row.latency_s for row in rows]):
        yield "Log scale."
