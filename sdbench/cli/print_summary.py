"""What a run ends with on the terminal: a sentence, one table, warnings by cause, and what it can tell."""

from collections.abc import Iterator, Sequence

from sdbench.cli.output import make_table, open_console, print_wrapped, style_of_half_width
from sdbench.compare.causes import Cause, find_causes
from sdbench.compare.projection import describe_projection
from sdbench.compare.quality import timed_calls_s
from sdbench.compare.references import Reference, StudyAnswer, main_answer, references_for
from sdbench.compare.resolution import describe_resolution
from sdbench.report.answers import IMAGE
from sdbench.report.format import list_some
from sdbench.report.labels import name_experiments, split_labels
from sdbench.report.naming import shorten_device
from sdbench.report.questions import demand_of, is_whole
from sdbench.report.sections.unmeasured import OUT_OF_MEMORY_HINT
from sdbench.runner.outcome import describe_end
from sdbench.schema.base import Known, Unknown
from sdbench.schema.metrics import (
    SOURCE_TITLES,
    MemoryRange,
    batch_of,
    images_per_min,
    launches_that_count,
    result_memory,
    result_sustained_ratio,
)
from sdbench.schema.outcome import AnyOutcome, Succeeded, find_precision_result, find_search
from sdbench.schema.record import Record, Result
from sdbench.stats.intervals import LAUNCHES_FOR_INTERVAL, Estimate, estimate_latency
from sdbench.units import format_bytes, format_duration, round_significant

_COLUMNS = ("experiment", "latency", "interval", "images/min", "memory", "launches")
_CAUSES_MAX = 3
_ENDS_MAX = 5
# What most readers know: a card for consumers with results of both precisions.
_KNOWN_DEVICE = "NVIDIA GeForce RTX 3090"
_WEIGHTS = {"no": ("no", "red"), "care": ("with care", "yellow")}


def print_summary(record: Record, *, with_references: bool = True) -> None:
    """Print the headline, one line per experiment, at most three warnings, and what the run can tell."""
    print_wrapped("")
    references = references_for(record) if with_references else ()
    print_wrapped(_headline(record, references), "bold")
    if caveat := _caveat(record):
        print_wrapped(caveat, "dim")
    if references:
        print_wrapped(_describe_references(references), "dim")
    print_wrapped("")
    _print_table(record)
    if sustained := _describe_sustained(record):
        print_wrapped(sustained)
    ends = list(_other_ends(record))
    for text, style in ends[:_ENDS_MAX]:
        print_wrapped(text, style)
    if len(ends) > _ENDS_MAX:
        print_wrapped(f"and {len(ends) - _ENDS_MAX} more experiments without a result: see the report")
    print_wrapped("")
    for text, style in _trust_lines(find_causes([record]) if _timed(record) else None):
        print_wrapped(text, style)
    if resolution := describe_resolution(record):
        print_wrapped(f"{resolution}.")
    print_wrapped("")


def _caveat(record: Record) -> str:
    """What the headline leaves out: how rough a projection is, or what the native steps would take."""
    if answer := main_answer(record):
        return answer.caveat or ""
    timed = _timed(record)
    if not timed or not is_whole((first := _first(timed)).planned.experiment):
        return ""
    return describe_projection(first.planned, launches_that_count(first.outcome))


def _first(timed: Sequence[Result]) -> Result:
    """The experiment of the most work per image, at its smallest batch."""
    return max(timed, key=lambda item: (demand_of(item.planned.experiment, item.outcome), -_batch(item)))


def _headline(record: Record, references: Sequence[Reference]) -> str:
    """One image of the 2022 study where that was measured, else the first experiment; and a machine to compare with."""
    machine, timed = _name_machine(record), _timed(record)
    answer = main_answer(record)
    if answer is None:
        if not timed:
            return f"{record.manifest.title} on {machine}: nothing was timed"
        first = _first(timed)
        duration = format_duration(_estimate(first).value)
        return f"{first.planned.label}: {duration} a call on {machine}"
    about = f"about {format_duration(answer.estimate.value)} (projected)" if answer.is_projected else ""
    sentence = f"{_image(answer)}: {about or format_duration(answer.estimate.value)} on {machine}"
    named = {item.device_name: item for item in references}
    if reference := named.get(record.device_name) or named.get(_KNOWN_DEVICE):
        precision = reference.experiment.precision
        other = "" if precision == answer.experiment.precision else f" ({precision})"
        duration = format_duration(reference.latency_s)
        sentence += f"; {shorten_device(reference.device_name)} in {reference.year}: {duration}{other}"
    return sentence


def _image(answer: StudyAnswer) -> str:
    batch = answer.experiment.batch
    return f"One {IMAGE}" if batch == 1 else f"{batch} images at once, {IMAGE.partition(', ')[2]}"


def _name_machine(record: Record) -> str:
    count = record.fingerprint.hardware.logical_cpu_count
    name = shorten_device(record.device_name)
    if record.origin == "virtual":
        return "a simulated machine"
    if record.device.startswith("cuda") or isinstance(count, Unknown):
        return name
    return f"{name}, {count.value} CPU{'' if count.value == 1 else 's'}"


def _describe_references(references: Sequence[Reference]) -> str:
    """Every machine of the study that answers the question, with the precision where it is another than most."""
    precisions = [reference.experiment.precision for reference in references]
    usual = max(set(precisions), key=precisions.count)
    texts = [
        f"{shorten_device(item.device_name)} {format_duration(item.latency_s)}"
        + (f" ({item.experiment.precision})" if item.experiment.precision != usual else "")
        for item in references
    ]
    return f"published in {references[0].year}, {usual}: {', '.join(texts)}"


def _timed(record: Record) -> list[Result]:
    return [result for result in record.results if timed_calls_s(result.outcome)]


def _batch(result: Result) -> int:
    return batch_of(result.planned, result.outcome)


def _estimate(result: Result) -> Estimate:
    return estimate_latency(timed_calls_s(result.outcome), result.planned.protocol.confidence)


def _print_table(record: Record) -> None:
    """The table, its rows named by what distinguishes them and their common words above."""
    timed = [(result, result.outcome) for result in _timed(record) if isinstance(result.outcome, Succeeded)]
    if not timed:
        return
    names = name_experiments([record])
    shared, own = split_labels([names[result.planned.experiment_id] for result, _ in timed])
    if shared:
        print_wrapped(f"all: {shared}", "dim")
    rows = []
    for result, outcome in timed:
        _, *cells = summary_row(result, outcome)
        largest = f": {batch_of(result.planned, outcome)}" if find_search(outcome.launches) else ""
        rows.append((f"{own[names[result.planned.experiment_id]]}{largest}", *cells))
    memories = [memory for _, outcome in timed if isinstance(memory := result_memory(outcome), MemoryRange)]
    sources = {memory.source_title for memory in memories}
    columns = [title if title != "memory" or len(sources) != 1 else _memory_title(*sources) for title in _COLUMNS]
    table = make_table(columns, rows, right=columns[1:])
    for index, (result, outcome) in enumerate(timed):
        table.rows[index].style = _row_style(result, outcome)
    open_console(120).print(table)


def _describe_sustained(record: Record) -> str:
    """Return how much longer a call takes after a time of load, empty where the protocol asks for none."""
    ratios = [ratio for result in _timed(record) if (ratio := result_sustained_ratio(result.outcome)) is not None]
    if not ratios:
        return ""
    span = " to ".join(dict.fromkeys(f"{ratio:.3f}" for ratio in (min(ratios), max(ratios))))
    loads = ", ".join(dict.fromkeys(f"{result.planned.protocol.sustained_s:g} s" for result in _timed(record)))
    return f"Sustained / short: after {loads} of load a call takes {span} times as long."


def _memory_title(source: str) -> str:
    return "host RSS" if source == SOURCE_TITLES["host_rss_peak_bytes"] else "GPU memory"


def _row_style(result: Result, outcome: Succeeded) -> str:
    estimate = _estimate(result)
    if not estimate.is_useful or _is_short(result, outcome):
        return "yellow"
    half_width = estimate.relative_half_width or 0.0
    return style_of_half_width(half_width)


def summary_row(result: Result, outcome: Succeeded) -> tuple[str, ...]:
    """Return the cells of one measured experiment."""
    estimate = _estimate(result)
    batch = batch_of(result.planned, outcome)
    memory = result_memory(outcome)
    return (
        result.planned.label,
        format_duration(estimate.value),
        f"+-{100 * (estimate.relative_half_width or 0.0):.1f} %" if estimate.is_useful else _why_no_interval(estimate),
        round_significant(images_per_min(batch, estimate.value), 3),
        "unknown" if isinstance(memory, Unknown) else format_bytes(memory.median_bytes),
        _describe_launches(result, outcome),
    )


def _why_no_interval(estimate: Estimate) -> str:
    return "too few" if estimate.launch_count < LAUNCHES_FOR_INTERVAL else "too wide"


def _describe_launches(result: Result, outcome: Succeeded) -> str:
    count = len(timed_calls_s(outcome))
    if not _is_short(result, outcome):
        return str(count)
    return f"{count} of {result.planned.protocol.launches_min}: {outcome.stop_reason}"


def _is_short(result: Result, outcome: Succeeded) -> bool:
    return len(timed_calls_s(outcome)) < result.planned.protocol.launches_min


def _other_ends(record: Record) -> Iterator[tuple[str, str]]:
    """What was not timed, the reason, and the style of the line; experiments with one reason share a line."""
    labels: dict[tuple[str, str], list[str]] = {}
    for result in record.results:
        outcome = result.outcome
        if not isinstance(outcome, Succeeded):
            is_elsewhere = result.planned.experiment.device not in ("any", record.device.partition(":")[0])
            style = "red" if outcome.kind != "skipped" else "dim" if is_elsewhere else "yellow"
            end = f"{describe_end(outcome)}{_hint(outcome)}", style
        elif timed_calls_s(outcome):
            continue
        else:
            end = describe_comparison(outcome), ""
        labels.setdefault(end, []).append(result.planned.label)
    for (text, style), names in labels.items():
        yield f"{_name_several(names)}: {text}", style


def _hint(outcome: AnyOutcome) -> str:
    """What to do, where the end itself does not say it."""
    hints = {"skipped": getattr(outcome, "hint", ""), "out_of_memory": OUT_OF_MEMORY_HINT}
    return f"; {hints[outcome.kind]}" if outcome.kind in hints else ""


def _name_several(labels: Sequence[str]) -> str:
    """Name experiments by what distinguishes them, as far as that is short."""
    if len(labels) == 1:
        return labels[0]
    shared, own = split_labels(labels)
    return f"{len(labels)} experiments" + (f", {shared} ({list_some(list(own.values()))})" if shared else "")


def _trust_lines(causes: Sequence[Cause] | None) -> Iterator[tuple[str, str]]:
    """Whether the results can be trusted: yes, with care, or no, each reason with its hint."""
    if causes is None:
        return
    against = [cause for cause in causes if cause.weight != "note"]
    if not against:
        note = f"; note: {causes[0].what}" if causes else ": no quality check warned"
        yield f"Can it be trusted? Yes{note}.", "green"
    for index, cause in enumerate(against[:_CAUSES_MAX]):
        answer, style = _WEIGHTS[cause.weight]
        lead = f"Can it be trusted? {answer.capitalize()}" if index == 0 else "also"
        where = f"{cause.where}: " if cause.where and cause.total > 1 else ""
        yield f"{lead}: {where}{cause.what}; {cause.hint}", style


def describe_comparison(outcome: Succeeded) -> str:
    """Return one line about an experiment that compares instead of timing."""
    workload_result = find_precision_result(outcome.launches)
    if workload_result is None:
        return "no usable latency sample"
    values = [item.ssim.value for item in workload_result.sweep if isinstance(item.ssim, Known)]
    if not values:
        return f"SSIM against {workload_result.reference_label}: unknown, some values are not finite"
    low, high = (round_significant(value, 5) for value in (min(values), max(values)))
    return f"SSIM {low} to {high} over {len(values)} runs, against {workload_result.reference_label}"
