"""Your latency next to reference results of the same options: a ratio, and no verdict."""

from sdbench.report.format import Row, cell, make_table, numbers, texts
from sdbench.report.grouping import group_by
from sdbench.report.model import Section
from sdbench.report.series import Measured, Point, Source
from sdbench.schema.outcome import OutOfMemory, ReferenceResult
from sdbench.units import format_count

TITLE = "Reference machines"
# Options that a reference result does not record, or that change no time.
_IGNORED_OPTIONS = {"weights", "weights_seed", "hub_id", "revision", "seed", "device"}
_RULE = (
    "Joined on all options but the weights, the seed and the device option. A reference result is one number without "
    "samples: it has no interval, so the ratio has no verdict. Below 1, yours is faster."
)
_NONE_HERE = (
    "Reference machines are in the chart at the top where a result answers their question. For all of their results, "
    "name them next to your run: sdbench report RUN reports/reference/*"
)
_COLUMNS = (*texts("Reference machine"), *numbers("yours, s", "low", "high", "reference, s", "yours / reference"))


def build(source: Source) -> Section | str:
    """Return one row per measured experiment and reference machine with the same options, and what is unknown."""
    references = [point for point in source.points if point.machine.record.origin == "imported"]
    if not references:
        return _NONE_HERE
    by_options = group_by(references, _join_key)
    comparable = [point for point in source.points if point.estimate or isinstance(point.outcome, OutOfMemory)]
    own = [point for point in comparable if point.machine.record.origin == "measured"]
    pairs = [(point, other) for point in own for other in by_options.get(_join_key(point), ())]
    notes = _notes(references)
    if not pairs:
        sentence = "No experiment of yours has the options of a reference result, so there is nothing to compare."
        return Section(paragraphs=(sentence, *notes))
    several = sum(machine.record.origin == "measured" for machine in source.machines) > 1
    columns = (*texts("Experiment", *(["Your machine"] if several else [])), *_COLUMNS)
    rows = (
        (point.label, *([point.machine.name] if several else []), other.machine.name, *_ratio_cells(point, other))
        for point, other in pairs
    )
    table = make_table("Your latency per call next to the reference", columns, rows, notes)
    return Section(paragraphs=(_RULE,), tables=(table,))


def _join_key(point: Point) -> str:
    return point.experiment.model_dump_json(exclude=_IGNORED_OPTIONS)


def _ratio_cells(own: Point, other: Point) -> Row:
    mine, theirs = own.estimate, other.estimate
    return (
        *(own.interval if isinstance(own, Measured) else (cell(own.status, "bad"), None, None)),
        theirs.value if theirs else cell(other.status, "bad"),
        mine.value / theirs.value if mine and theirs else None,
    )


def _notes(references: list[Point]) -> tuple[str, ...]:
    """How the reference results were made, and what their source leaves open, each with how many it is about."""
    outcomes = [point.outcome for point in references if isinstance(point.outcome, ReferenceResult)]
    remarks = [f"method: {outcome.method}" for outcome in outcomes]
    remarks += [caveat for outcome in outcomes for caveat in outcome.caveats]
    return tuple(f"{format_count(remarks.count(text), 'result')}: {text}." for text in dict.fromkeys(remarks))
