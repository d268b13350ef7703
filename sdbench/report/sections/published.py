"""Your latency beside what others published for the same options: a ratio, and no verdict."""

from sdbench.report.model import Cell, Section, Table
from sdbench.report.points import Point, Source
from sdbench.report.text import NONE, cell, format_count, format_number, make_table
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import OutOfMemory, Published

TITLE = "Beside published machines"
# What a published record does not know, or what changes no time: the trained values, the seed, where it was asked for.
_IGNORED_OPTIONS = {"weights", "weights_seed", "hub_id", "revision", "seed", "device"}
_RULE = (
    "Joined on all options but the weights, the seed and the device option. A published figure is one number without "
    "samples: it has no interval, so the ratio has no verdict. Below 1, yours is faster."
)
_NONE_HERE = (
    "No published machine is on this page. Name some beside your run: sdbench report RUN reports/reference/*",
)
_COLUMNS = "Published machine|#yours, s|#low|#high|#published, s|#yours / published"


def build(source: Source) -> Section:
    """Return one row per experiment of one's own and published machine that ran the same, with what is left open."""
    published = [point for point in source.points if point.machine.record.origin == "imported"]
    if not published:
        return Section(name="published", title=TITLE, paragraphs=_NONE_HERE)
    theirs: dict[str, list[Point]] = {}
    for point in published:
        theirs.setdefault(_join_key(point.experiment), []).append(point)
    own = [point for point in source.points if point.machine.record.origin == "measured" and _is_told(point)]
    pairs = [(point, other) for point in own for other in theirs.get(_join_key(point.experiment), ())]
    notes = _notes(published)
    if not pairs:
        sentence = "No experiment of yours has the options of a published one, so there is nothing to put side by side."
        return Section(name="published", title=TITLE, paragraphs=(sentence, *notes))
    table = make_table(
        "Your latency per call beside the published one",
        f"{_own_columns(source)}|{_COLUMNS}",
        [_row(source, point, other) for point, other in pairs],
    )
    noted = Table(caption=table.caption, columns=table.columns, rows=table.rows, notes=notes)
    return Section(name="published", title=TITLE, paragraphs=(_RULE,), tables=(noted,))


def _join_key(experiment: Experiment) -> str:
    return experiment.model_dump_json(exclude=_IGNORED_OPTIONS)


def _is_told(point: Point) -> bool:
    """Whether there is something to put beside: a latency, or that memory did not suffice."""
    return point.estimate is not None or isinstance(point.outcome, OutOfMemory)


def _own_columns(source: Source) -> str:
    return "Experiment|Your machine" if _own_machine_count(source) > 1 else "Experiment"


def _own_machine_count(source: Source) -> int:
    return sum(machine.record.origin == "measured" for machine in source.machines)


def _row(source: Source, own: Point, other: Point) -> tuple[Cell | str, ...]:
    names = (own.label, own.machine.name) if _own_machine_count(source) > 1 else (own.label,)
    mine, theirs = own.estimate, other.estimate
    return (
        *names,
        other.machine.name,
        *((format_number(mine.value), format_number(mine.low), format_number(mine.high)) if mine else _full(own, 2)),
        format_number(theirs.value) if theirs else cell(other.status, "bad"),
        format_number(mine.value / theirs.value) if mine and theirs else NONE,
    )


def _full(point: Point, dash_count: int) -> tuple[Cell | str, ...]:
    return (cell(point.status, "bad"), *[NONE] * dash_count)


def _notes(published: list[Point]) -> tuple[str, ...]:
    """How the published figures were made, and what their source leaves open, each with how many it is about."""
    outcomes = [point.outcome for point in published if isinstance(point.outcome, Published)]
    remarks = [f"published: {outcome.method}" for outcome in outcomes]
    remarks += [caveat for outcome in outcomes for caveat in outcome.caveats]
    return tuple(f"{format_count(remarks.count(text), 'figure')}: {text}." for text in dict.fromkeys(remarks))
