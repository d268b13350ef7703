"""The answers in plain words, and what warns."""

from collections import Counter
from collections.abc import Sequence

from sdbench.compare.verdicts import BY_WEIGHT
from sdbench.compare.wording import format_change, format_interval
from sdbench.report.costs import IMAGE_COUNT, cost_lines, cost_of_images, format_cost
from sdbench.report.model import Card, Section, SummarySection, Table, Tone
from sdbench.report.phases import PROJECTED_STEPS, project
from sdbench.report.points import Measured, Source
from sdbench.report.resources import MemoryUse, energy_per_image, memory_title, memory_use
from sdbench.report.sections.checks import count_checks, count_wide
from sdbench.report.sections.reproduce import make_command
from sdbench.report.text import (
    NONE,
    TONES,
    format_count,
    format_estimate,
    format_number,
    list_some,
    make_table,
    shorten_hashes,
)
from sdbench.schema.base import Known
from sdbench.schema.outcome import Notice, Succeeded, was_throttled
from sdbench.units import format_bytes, format_duration, round_significant

TITLE = "In short"
_SEAL_DIGITS = 12
_DOUBTS = 4
_OTHER_MAINS = 1
_LINK_TEXTS = {
    "compare": "All verdicts",
    "unmeasured": "Why not",
    "latency": "All latencies",
    "memory": "All memory figures",
    "checks": "Evidence",
    "reproduce": "Commands, manifest, hashes",
}


def build(source: Source) -> Section:
    """Return the four answers and the warnings."""
    mains = main_experiments(source.own or source.measured)
    cards = (_machine_card(source, mains), _change_card(source), _trust_card(source), _repeat_card(source))
    warnings = _warnings_table(source)
    return SummarySection(name="summary", title=TITLE, cards=cards, tables=(warnings,) if warnings else ())


def main_experiments(found: Sequence[Measured]) -> list[list[Measured]]:
    """Return the experiments by what one image is (network, size, steps), the most demanding first."""
    groups: dict[tuple[bool, int, int], list[Measured]] = {}
    for measured in found:
        e = measured.point.experiment
        groups.setdefault((e.architecture != "tiny", e.width * e.height, e.steps), []).append(measured)
    return [groups[key] for key in sorted(groups, reverse=True)]


def _fastest(group: list[Measured]) -> Measured:
    """The shortest call at the smallest batch, what one user waits; one with an interval goes before one without."""
    return min(group, key=lambda m: (m.point.experiment.batch, m.estimate.low is None, m.estimate.value))


def _next_machine(group: list[Measured], first: Measured) -> list[str]:
    """How far the next machine is behind the fastest at the same experiment, or that the two are not told apart."""
    others = [
        m
        for m in group
        if m.point.machine.name != first.point.machine.name
        and m.point.experiment.experiment_id == first.point.experiment.experiment_id
    ]
    if not others:
        return []
    following = min(others, key=lambda m: m.estimate.value)
    name, low, high = following.point.machine.name, following.estimate.low, first.estimate.high
    if low is None or high is None or low <= high:
        return [f"not told apart from {name}, {format_estimate(following.estimate)}"]
    factor = following.estimate.value / first.estimate.value
    return [f"fastest of {len(others) + 1}; next {name}, {format_number(factor)} times as long"]


def _published_line(source: Source) -> list[str]:
    """The fastest of the published machines, where they stand beside one's own."""
    published = [m for m in source.measured if m.point.is_published]
    if not published or not source.own:
        return []
    first = _fastest(main_experiments(published)[0])
    name, latency = first.point.machine.name, format_estimate(first.estimate)
    return [f"fastest of others: {name}, {latency} for {first.point.label}"]


def _machine_card(source: Source, mains: list[list[Measured]]) -> Card:
    """Which machine is fastest, and per money; of a single one how fast it is, and what it needs."""
    question = "Which machine?"
    if not mains:
        return _card(question, "Not measured", ("No experiment has a latency.",), "unmeasured", "bad")
    first = _fastest(mains[0])
    machine = first.point.machine.name
    lines = [f"{first.point.label}: {format_estimate(first.estimate)} per call"]
    if projection := project(first):
        words = format_duration(projection.estimate.value)
        lines.append(f"{PROJECTED_STEPS} steps would take about {words}: projection, not measured")
    lines += [
        f"{_name_beside(source, other, first)}: {format_estimate(other.estimate)} per call"
        for other in map(_fastest, mains[1 : 1 + _OTHER_MAINS])
    ]
    best = max(mains[0], key=lambda m: m.images_per_min)
    if best is not first:
        lines.append(
            f"most images: {format_number(best.images_per_min)} per minute with {_name_beside(source, best, first)}"
        )
    lines += _next_machine(mains[0], first)
    lines += _published_line(source)
    lines += _needs(first)
    lines += cost_lines(source, first)
    lines += _cheapest_lines(source, mains[0])
    return _card(question, f"{machine}: {format_duration(first.estimate.value)}", tuple(lines), "latency")


def _cheapest_lines(source: Source, group: list[Measured]) -> list[str]:
    """The best per money, if several machines have a price in one currency."""
    costs = [(m, cost) for m in group if (cost := cost_of_images(source, m)) is not None]
    has_several_machines = len({m.point.machine.name for m, _ in costs}) > 1
    if not has_several_machines or len({cost.currency for _, cost in costs}) > 1:
        return []
    best, cost = min(costs, key=lambda item: item[1].value)
    return [f"best per money: {_name(source, best)}, {format_cost(cost)} for {IMAGE_COUNT:,} images"]


def _needs(measured: Measured) -> list[str]:
    """What a call takes besides time."""
    memory, energy = memory_use(measured.point), energy_per_image(measured.point)
    lines = []
    if isinstance(memory, MemoryUse):
        lines.append(f"memory: {format_bytes(memory.high_bytes)} ({memory_title(measured.point)})")
    if isinstance(energy, Known):
        lines.append(f"energy: {round_significant(energy.value, 3)} J per image")
    return lines


def _change_card(source: Source) -> Card:
    question = "Did the change matter?"
    if not source.compared:
        several = len(source.machines) > 1 and not source.own
        alone = "No run here has samples." if several else "One run has samples here."
        alone += " Name two that have to hold one against the other."
        return _card(question, "Nothing to compare", (alone,), "compare")
    first = source.compared[0]
    comparison = first.comparison
    counts = Counter(item.judgements[0].verdict for item in comparison.experiments)
    tally = [f"{counts[verdict]} {verdict}" for verdict in BY_WEIGHT if counts[verdict]]
    told = [item for item in comparison.experiments if item.judgements[0].verdict in ("slower", "faster")]
    lines = [f"of {format_count(len(comparison.experiments), 'experiment')}, with a margin of {comparison.margin:.0%}"]
    worst = max(told, key=lambda item: item.judgements[0].ratio or 0.0, default=None)
    if worst is not None and worst.judgements[0].ratio is not None:
        judgement = worst.judgements[0]
        label = "worst" if judgement.verdict == "slower" else "least gain"
        change = f"{format_change(worst.judgements[0].ratio)} [{format_interval(judgement)}]"
        lines.append(f"{label}: {worst.label} {change}")
    if comparison.suite.ratio is not None:
        lines.append(f"on average {format_change(comparison.suite.ratio)} [{format_interval(comparison.suite)}]")
    names = source.machine_names
    lines.append(f"{names[first.baseline - 1]} → {names[first.candidate - 1]}")
    lines.append(shorten_hashes(comparison.attribution))
    tone: Tone = TONES.get(comparison.verdict, "plain")
    return _card(question, ", ".join(tally) or "Nothing in common", tuple(lines), "compare", tone)


def _trust_card(source: Source) -> Card:
    passed, total = count_checks(source)
    trust = [check for point in source.points for check in point.trust]
    doubted = Counter(check.name for check in trust if check.verdict == "doubtful")
    launches = [launch for point in source.points for launch in point.launches]
    statuses = Counter(point.status for point in source.points)
    lines = [f"{format_count(count, 'experiment')}: doubtful {name}" for name, count in doubted.most_common(_DOUBTS)]
    if (more := len(doubted) - _DOUBTS) > 0:
        lines.append(f"and {format_count(more, 'more kind')} of doubt")
    lines.append("experiments: " + ", ".join(f"{count} {status}" for status, count in statuses.items()))
    if total:
        failed = dict.fromkeys(check.name for launch in launches for check in launch.checks if not check.passed)
        names = f"; failed: {list_some(list(failed))}" if failed else ""
        lines.append(f"what ran is what was asked: {passed:,} of {total:,} checks{names}")
    if throttled := sum(map(was_throttled, launches)):
        lines.append(f"{format_count(throttled, 'launch')} throttled")
    if wide_count := count_wide(source):
        lines.append(f"{format_count(wide_count, 'experiment')} with an interval wider than asked")
    if lone := sum(m.estimate.low is None for m in source.own):
        lines.append(f"{format_count(lone, 'experiment')} with one launch only: no interval")
    if kind_count := len(_warnings(source)):
        lines.append(f"{format_count(kind_count, 'kind')} of warnings below")
    told = [check for check in trust if check.verdict != "unknown"]
    good = sum(check.verdict == "good" for check in told)
    if unknown := len(trust) - len(told):
        lines.append(f"{format_count(unknown, 'trust check')} could not be made: what they need was not readable")
    answer = f"{good:,} of {len(told):,} trust checks good" if told else "Nothing was checked"
    tone: Tone = "plain" if passed == total and good == len(told) and told else "bad"
    return _card("Can I trust this?", answer, tuple(lines), "checks", tone)


def _repeat_card(source: Source) -> Card:
    records = [machine.record for machine in source.machines]
    commands = dict.fromkeys(make_command(record, records) for record in records)
    seals = list_some([f"{record.seal[:_SEAL_DIGITS]}…" for record in records])
    weights = ", ".join(dict.fromkeys(r.planned.experiment.weights for record in records for r in record.results))
    digests = [record.fingerprint.software.image_digest for record in records]
    images = dict.fromkeys(f"image {digest.value}" for digest in digests if isinstance(digest, Known))
    lines = (*commands, *images, f"seal {seals}")
    answer = f"Sealed: manifest, {weights} weights, seed" if weights else "Sealed, but nothing was planned"
    return _card("Can I repeat it?", answer, lines, "reproduce")


def _card(question: str, answer: str, lines: tuple[str, ...], section: str, tone: Tone = "plain") -> Card:
    return Card(
        question=question, answer=answer, tone=tone, lines=lines, link_section=section, link_text=_LINK_TEXTS[section]
    )


def _name(source: Source, measured: Measured) -> str:
    return " on ".join(source.row_names(measured.point))


def _name_beside(source: Source, measured: Measured, first: Measured) -> str:
    """The name of another experiment, with its machine where that is not the first one's."""
    is_same = measured.point.machine is first.point.machine
    return measured.point.label if is_same else _name(source, measured)


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
