"""The first screen: one sentence, the charts of it, the answers in a few words, and the warnings by cause."""

from collections.abc import Iterator

from sdbench.compare.causes import Cause, find_causes
from sdbench.compare.repeat import make_command
from sdbench.compare.resolution import describe_resolution, describe_smallest_change
from sdbench.report.answers import answer_chart
from sdbench.report.chart_model import Chart
from sdbench.report.format import format_estimate, format_number, list_some
from sdbench.report.grouping import group_by
from sdbench.report.headline import make_headline
from sdbench.report.labels import split_labels
from sdbench.report.model import Card, Section, SummarySection, Tone, WarningLine
from sdbench.report.naming import is_one_session
from sdbench.report.questions import is_for_buyers, main_experiments
from sdbench.report.sections.compare import first_pair_chart
from sdbench.report.sections.energy import IMAGE_COUNT, cost_of_images, format_cost
from sdbench.report.sections.latency import first_screen_charts
from sdbench.report.sections.reproduce import repeat_commands
from sdbench.report.series import Measured, Point, Source
from sdbench.schema.base import Known
from sdbench.schema.experiment import STUDY_STEPS
from sdbench.schema.metrics import MemoryRange, result_energy_j, result_memory, result_work
from sdbench.schema.outcome import Skipped
from sdbench.units import format_bytes, format_count, round_significant

TITLE = "In short"
_SEAL_DIGITS = 12
_REASONS = 3
_NOT_MISSING = ("ok", "compared", "reference")
# On a CPU there is nothing to check.
_GPU_ONLY = "foreign GPU processes"
_LINK_TEXTS = {
    "unmeasured": "Why not",
    "results": "All results",
    "checks": "Evidence",
    "quality": "All checks",
    "samples": "Every launch",
    "reproduce": "Manifest, versions, hashes",
}
_TONES: dict[str, Tone] = {"no": "bad", "care": "warn", "note": "muted"}


def build(source: Source) -> Section:
    """Return the sentence, the charts, the answers and the warnings."""
    headline = make_headline(source)
    causes = find_causes([machine.record for machine in source.machines])
    cards = (
        *_machine_cards(source),
        *_missing_cards(source),
        _trust_card(source, causes),
        *_resolution_cards(source),
        _repeat_card(source),
    )
    return SummarySection(
        headline=headline.text,
        tone=headline.tone,
        lead=headline.lead,
        charts=tuple(_charts(source)),
        cards=cards,
        warnings=tuple(_warning(cause) for cause in causes),
    )


def _charts(source: Source) -> Iterator[Chart]:
    """The change where there is one, the machines at one task, and the other points of a single run."""
    if change := first_pair_chart(source):
        yield change
    if answer := answer_chart(source):
        yield answer
    yield from first_screen_charts(source)


def _machine_cards(source: Source) -> Iterator[Card]:
    """What images take: which machine is fastest, and per money; of a single one what it needs."""
    records = [machine.record for machine in source.machines]
    several = source.several and not is_one_session(records)
    question = "Which machine?" if several else "What does it take?"
    mains = main_experiments(source.own or source.measured)
    if not mains:
        yield _card(question, "Not measured", ["No experiment has a latency."], "unmeasured", "bad")
        return
    group = mains[0]
    first = _fastest(group)
    lines = [] if source.compared else [f"{first.label}: {format_estimate(first.estimate)} a call"]
    work = result_work(first.outcome)
    if is_for_buyers(first) and first.experiment.steps >= (STUDY_STEPS if work is None else work.native_steps):
        best = max(group, key=lambda point: point.images_per_min.value)
        _, own = split_labels([first.label, best.label])
        where = f" on {best.machine.name}" if best.machine is not first.machine else ""
        which = "" if best is first else f", {own[best.label]}{where}"
        lines.append(f"most images: {format_number(best.images_per_min.value)} a minute{which}")
    lines += [*_next_machine(group, first), *_cost_lines(source, group, first)]
    if isinstance(energy := result_energy_j(first.outcome), Known):
        lines.append(f"energy: {round_significant(energy.value, 3)} J per image")
    memory = result_memory(first.outcome)
    answer = first.machine.name
    if isinstance(memory, MemoryRange):
        size = f"{format_bytes(memory.median_bytes)} of memory"
        answer = answer if several else size
        lines.append(f"memory: {memory.source_title}" if answer == size else f"{size} ({memory.source_title})")
    yield _card(question, answer, lines, "results")


def _missing_cards(source: Source) -> Iterator[Card]:
    """What a single run did not measure, each reason once; what is for another device is not missed."""
    kind = source.machines[0].record.device.partition(":")[0]
    own = [point for point in source.points if point.experiment.device in ("any", kind)]
    missing = group_by((point for point in own if point.status not in _NOT_MISSING), _describe_missing)
    if source.several or not missing or source.machines[0].record.origin == "imported":
        return
    most = sorted(missing.items(), key=lambda item: -len(item[1]))[:_REASONS]
    lines = [f"{members[0].label if len(members) == 1 else len(members)} {words}" for words, members in most]
    answer = f"{sum(map(len, missing.values()))} of {format_count(len(own), 'experiment')}"
    yield _card("What is missing?", answer, lines, "unmeasured", "warn")


def _describe_missing(point: Point) -> str:
    outcome = point.outcome
    return f"{point.status}: {outcome.reason}; {outcome.hint}" if isinstance(outcome, Skipped) else point.status


def _fastest(group: list[Measured]) -> Measured:
    """The shortest call at the smallest batch, what one user waits; one with an interval goes before one without."""
    return min(group, key=lambda point: (point.experiment.batch, point.estimate.low is None, point.estimate.value))


def _next_machine(group: list[Measured], first: Measured) -> Iterator[str]:
    """How far the next machine is behind the fastest at the same experiment, or that they cannot be distinguished."""
    experiment_id, name = first.experiment.experiment_id, first.machine.name
    others = [item for item in group if item.experiment.experiment_id == experiment_id and item.machine.name != name]
    # A reference result has no interval that could tell them apart.
    if not others or first.is_reference:
        return
    following = min(others, key=lambda point: point.estimate.value)
    name, low, high = following.machine.name, following.interval.low, first.interval.high
    if low is None or high is None or low <= high:
        yield f"not distinguishable from {name}, {format_estimate(following.estimate)}"
    else:
        factor = format_number(following.estimate.value / first.estimate.value)
        yield f"fastest of {len(others) + 1}; next {name}, {factor} times as long"


def _cost_lines(source: Source, group: list[Measured], first: Measured) -> Iterator[str]:
    """What images cost, and the best per money if several machines have a price in one currency."""
    if cost := cost_of_images(source, first):
        yield f"{IMAGE_COUNT:,} images cost {format_cost(cost)}"
    costs = [(point, cost) for point in group if (cost := cost_of_images(source, point)) is not None]
    machine_count = len({point.machine.name for point, _ in costs})
    if machine_count > 1 and len({cost.currency for _, cost in costs}) == 1:
        best, cost = min(costs, key=lambda item: item[1].amount.value)
        yield f"best per money: {_name(source, best)}, {format_cost(cost)} for {IMAGE_COUNT:,} images"


def _trust_card(source: Source, causes: tuple[Cause, ...]) -> Card:
    """Yes, with care, or no: one reason and one hint. What could not be checked says nothing against it."""
    question = "Can I trust this?"
    if not source.own:
        reason = "published numbers without samples" if source.measured else "nothing was measured"
        return _card(question, f"Not checked: {reason}", [], "unmeasured", "muted")
    against = [cause for cause in causes if cause.weight != "note"]
    unknown = dict.fromkeys(
        check.name
        for point in source.own
        for check in point.quality_checks
        if check.verdict == "not checked" and (check.name != _GPU_ONLY or point.machine.record.device != "cpu")
    )
    remarks = [f"not checked: {list_some(list(unknown))}"] if unknown else []
    if not against:
        passed = sum(check.verdict == "passed" for point in source.own for check in point.quality_checks)
        others = f"note: {causes[0].what}" if causes else "none warned"
        return _card(question, "Yes", [f"{passed:,} quality checks passed, {others}"], "quality", "good", remarks)
    first = against[0]
    answer = f"{'No' if first.weight == 'no' else 'With care'}: {first.summary}"
    lines = [_sentence(first), f"{first.hint[:1].upper()}{first.hint[1:]}."]
    return _card(question, answer, lines, "quality", _TONES[first.weight], remarks)


def _sentence(cause: Cause) -> str:
    where = f", in {cause.where}" if cause.where else ""
    return f"{cause.what[:1].upper()}{cause.what[1:]}{where}."


def _warning(cause: Cause) -> WarningLine:
    return WarningLine(tone=_TONES[cause.weight], what=cause.what, where=cause.where, hint=cause.hint)


def _resolution_cards(source: Source) -> Iterator[Card]:
    """What `ab` would detect on the machine of a single run."""
    if source.several or (change := describe_smallest_change(source.machines[0].record)) is None:
        return
    text = describe_resolution(source.machines[0].record) or ""
    yield _card("What can it tell?", f"Changes of {change} or more", [text], "samples")


def _repeat_card(source: Source) -> Card:
    records = [machine.record for machine in source.machines]
    commands = list(dict.fromkeys(make_command(record, records) for record in records))
    experiments = [result.planned.experiment for record in records for result in record.results]
    weights = ", ".join(dict.fromkeys(experiment.weights for experiment in experiments))
    contents = f"manifest, {weights} weights and seed are sealed" if weights else "sealed, but nothing was planned"
    lines = [f"{contents}: {list_some([f'{record.seal[:_SEAL_DIGITS]}…' for record in records])}"]
    if len(commands) > 1:
        lines.append(f"the first of {len(commands)} commands:")
    return Card(
        question="Can I repeat it?",
        answer="Yes, with three lines",
        tone="plain",
        lines=tuple(lines),
        commands=repeat_commands(records[0], commands[0]),
        link_section="reproduce",
        link_text=_LINK_TEXTS["reproduce"],
    )


def _card(
    question: str, answer: str, lines: list[str], section: str, tone: Tone = "plain", remarks: list[str] | None = None
) -> Card:
    return Card(
        question=question,
        answer=answer,
        tone=tone,
        lines=tuple(lines),
        remarks=tuple(remarks or ()),
        link_section=section,
        link_text=_LINK_TEXTS[section],
    )


def _name(source: Source, measured: Measured) -> str:
    return " on ".join(source.row_names(measured))
