"""The answers in plain words, and what warns."""

from collections import Counter

from sdbench.report.costs import cost_lines
from sdbench.report.model import Card, Section, SummarySection, Table, Tone
from sdbench.report.phases import PROJECTED_STEPS, project
from sdbench.report.points import Measured, Source
from sdbench.report.resources import MemoryUse, energy_per_image, memory_title, memory_use
from sdbench.report.sections.checks import count_checks, count_wide
from sdbench.report.sections.reproduce import make_command
from sdbench.report.text import NONE, format_count, format_estimate, format_number, make_table
from sdbench.schema.base import Known
from sdbench.schema.outcome import Notice, Succeeded, was_throttled
from sdbench.units import format_bytes, format_duration, round_significant

TITLE = "In short"
_SEAL_DIGITS = 12
_LINK_TEXTS = {
    "unmeasured": "Why not",
    "latency": "All latencies",
    "memory": "All memory figures",
    "checks": "Evidence",
    "reproduce": "Commands, manifest, hashes",
}


def build(source: Source) -> Section:
    """Return the four answers and the warnings."""
    mains = _main_experiments(source)
    cards = (_speed_card(source, mains), _needs_card(source, mains), _trust_card(source), _repeat_card(source))
    warnings = _warnings_table(source)
    return SummarySection(name="summary", title=TITLE, cards=cards, tables=(warnings,) if warnings else ())


def _main_experiments(source: Source) -> list[list[Measured]]:
    """The experiments by what one image is (network, size, steps), the most demanding first; one's own, if any."""
    groups: dict[tuple[bool, int, int], list[Measured]] = {}
    for measured in source.own or source.measured:
        e = measured.point.experiment
        groups.setdefault((e.architecture != "tiny", e.width * e.height, e.steps), []).append(measured)
    return [groups[key] for key in sorted(groups, reverse=True)]


def _fastest(group: list[Measured]) -> Measured:
    """The shortest call at the smallest batch: what one user waits."""
    return min(group, key=lambda m: (m.point.experiment.batch, m.estimate.value))


def _speed_card(source: Source, mains: list[list[Measured]]) -> Card:
    question = "How fast is it?"
    if not mains:
        return _card(question, "Not measured", ("No experiment has a latency.",), "unmeasured", "bad")
    first = _fastest(mains[0])
    lines = [f"{_name(source, first)}: {format_estimate(first.estimate)} per call"]
    if projection := project(first):
        words = format_duration(projection.estimate.value)
        lines.append(f"{PROJECTED_STEPS} steps would take about {words}: projection, not measured")
    lines += [f"{_name(source, m)}: {format_estimate(m.estimate)} per call" for m in map(_fastest, mains[1:])]
    for group in (group for group in mains if len(group) > 1):
        best = max(group, key=lambda m: m.images_per_min)
        lines.append(f"most images: {format_number(best.images_per_min)} per minute with {_name(source, best)}")
    return _card(question, format_duration(first.estimate.value), tuple(lines), "latency")


def _needs_card(source: Source, mains: list[list[Measured]]) -> Card:
    question = "What does it need?"
    if not mains:
        return _card(question, "Not measured", ("No experiment has a memory figure.",), "unmeasured", "bad")
    first = _fastest(mains[0])
    memory, energy = memory_use(first.point), energy_per_image(first.point)
    figure = memory_title(first.point)
    if isinstance(memory, MemoryUse):
        answer, lines = format_bytes(memory.high_bytes), [f"{figure} of {_name(source, first)}"]
    else:
        answer, lines = "Memory unknown", [f"{figure}: {memory.reason}"]
    words = f"{round_significant(energy.value, 3)} J" if isinstance(energy, Known) else f"unknown: {energy.reason}"
    lines.append(f"energy per image: {words}")
    lines += cost_lines(source, first)
    return _card(question, answer, tuple(lines), "memory")


def _trust_card(source: Source) -> Card:
    passed, total = count_checks(source)
    launches = [launch for point in source.points for launch in point.launches]
    statuses = Counter(point.status for point in source.points)
    lines = ["experiments: " + ", ".join(f"{count} {status}" for status, count in statuses.items())]
    if throttled := sum(map(was_throttled, launches)):
        lines.append(f"{format_count(throttled, 'launch')} throttled")
    if wide_count := count_wide(source):
        lines.append(f"{format_count(wide_count, 'experiment')} with an interval wider than asked")
    if lone := sum(m.estimate.low is None for m in source.own):
        lines.append(f"{format_count(lone, 'experiment')} with one launch only: no interval")
    if kind_count := len(_warnings(source)):
        lines.append(f"{format_count(kind_count, 'kind')} of warnings below")
    answer = f"{passed:,} of {total:,} checks passed" if total else "Nothing was checked"
    return _card("Can I trust this?", answer, tuple(lines), "checks", "plain" if total and passed == total else "bad")


def _repeat_card(source: Source) -> Card:
    records = [machine.record for machine in source.machines]
    commands = dict.fromkeys(map(make_command, records))
    seals = ", ".join(f"{record.seal[:_SEAL_DIGITS]}…" for record in records)
    weights = ", ".join(dict.fromkeys(r.planned.experiment.weights for record in records for r in record.results))
    lines = (*commands, f"seal {seals}")
    answer = f"Sealed: manifest, {weights} weights, seed" if weights else "Sealed, but nothing was planned"
    return _card("Can I repeat it?", answer, lines, "reproduce")


def _card(question: str, answer: str, lines: tuple[str, ...], section: str, tone: Tone = "plain") -> Card:
    return Card(
        question=question, answer=answer, tone=tone, lines=lines, link_section=section, link_text=_LINK_TEXTS[section]
    )


def _name(source: Source, measured: Measured) -> str:
    return " on ".join(source.row_names(measured.point))


def _warnings(source: Source) -> dict[tuple[str, str], list[tuple[str, Notice]]]:
    """Every warning with where it was seen, by machine and code."""
    found: dict[tuple[str, str], list[tuple[str, Notice]]] = {}
    for machine in source.machines:
        for notice in machine.record.warnings:
            found.setdefault((machine.name, notice.code), []).append(("the run", notice))
    for point in source.points:
        notices = point.outcome.warnings if isinstance(point.outcome, Succeeded) else ()
        for notice in (*notices, *(notice for launch in point.launches for notice in launch.warnings)):
            found.setdefault((point.machine.name, notice.code), []).append((point.label, notice))
    return found


def _warnings_table(source: Source) -> Table | None:
    """One row per kind of warning: ten experiments of three launches would else give a page of the same."""
    rows = [
        (
            _first_and_more([notice.message for _, notice in seen]),
            *((machine,) if source.several else ()),
            _first_and_more([where for where, _ in seen]),
            seen[0][1].remedy or NONE,
            str(len(seen)),
        )
        for (machine, _), seen in _warnings(source).items()
    ]
    columns = "What was seen|" + ("Machine|" if source.several else "") + "Where|What to do|#times"
    return make_table("What warns; the record holds each warning", columns, rows) if rows else None


def _first_and_more(texts: list[str]) -> str:
    distinct = list(dict.fromkeys(texts))
    return distinct[0] + (f" (and {len(distinct) - 1} more)" if len(distinct) > 1 else "")
