"""The table that ends a run."""

from collections.abc import Sequence
from statistics import median

from sdbench.compare.trust import doubts
from sdbench.runner.judge import describe_end
from sdbench.schema.base import Known
from sdbench.schema.outcome import Launch, Succeeded, counted_launches, find_precision_study, find_search
from sdbench.schema.record import Record, Result
from sdbench.stats.intervals import Estimate, estimate_latency
from sdbench.units import format_bytes, format_duration, round_significant

_SECONDS_PER_MINUTE = 60.0


def print_summary(record: Record) -> None:
    """Print one line per experiment: latency with its interval, images/min, memory, a study, or why there is none."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    table = Table(title=f"{record.manifest.title} on {record.device}", title_justify="left", box=None, pad_edge=False)
    for name in ("experiment", "latency", "interval", "images/min", "peak memory", "launches x calls"):
        table.add_column(name, justify="left" if name == "experiment" else "right", overflow="fold")
    bad: list[str] = []
    for result in record.results:
        if isinstance(result.outcome, Succeeded) and counted_latencies(result.outcome):
            table.add_row(*summary_row(result, result.outcome))
        elif isinstance(result.outcome, Succeeded):
            bad.append(f"{result.planned.label}: {describe_study(result.outcome)}")
        else:
            bad.append(f"{result.planned.label}: {describe_end(result.outcome)}")
    console.print()
    console.print(table)
    bad += [
        f"doubt: {result.planned.label}: {check.name}: {check.evidence}"
        for result in record.results
        for check in doubts(result.trust)
    ]
    for line in bad:
        console.print(line, markup=False, soft_wrap=True)
    console.print()


def summary_row(result: Result, outcome: Succeeded) -> tuple[str, ...]:
    """Return the cells of one measured experiment."""
    launches = counted_launches(outcome.launches)
    estimate = estimate_latency(counted_latencies(outcome), result.planned.protocol.confidence)
    batch = launches[0].batch
    images_per_min = batch / estimate.value * _SECONDS_PER_MINUTE
    found = f": {batch}" if find_search(outcome.launches) else ""
    return (
        f"{result.planned.label}{found}",
        format_duration(estimate.value),
        _interval(estimate, result.planned.protocol.confidence),
        round_significant(images_per_min, 3),
        _peak_memory(launches),
        f"{estimate.launch_count} x {round_significant(estimate.sample_count / estimate.launch_count, 2)}",
    )


def counted_latencies(outcome: Succeeded) -> list[tuple[float, ...]]:
    """Return the steady latencies (s) of each counted launch; none for a study."""
    return [
        latency.steady for launch in counted_launches(outcome.launches) if (latency := launch.find_series("latency"))
    ]


def describe_study(outcome: Succeeded) -> str:
    """Return one line about an experiment that compares instead of timing."""
    study = find_precision_study(outcome.launches)
    if study is None:
        return "no usable latency sample"
    values = [item.ssim.value for item in study.sweep if isinstance(item.ssim, Known)]
    if not values:
        return f"SSIM against {study.reference_label}: unknown, some values are not finite"
    low, high = (round_significant(value, 5) for value in (min(values), max(values)))
    return f"SSIM {low} to {high} over {len(values)} runs, against {study.reference_label}"


def _interval(estimate: Estimate, confidence: float) -> str:
    if estimate.low is None or estimate.high is None:
        return "one launch: none"
    if not estimate.is_telling:
        return f"none that tells: {estimate.launch_count} launches are too few"
    return f"{format_duration(estimate.low)} to {format_duration(estimate.high)} ({confidence:.0%})"


def _peak_memory(launches: Sequence[Launch]) -> str:
    for name in ("torch_reserved_peak_bytes", "host_rss_peak_bytes"):
        readings = [getattr(launch.memory, name) for launch in launches]
        known = [reading.value for reading in readings if isinstance(reading, Known)]
        if known:
            return f"{format_bytes(median(known))} {'GPU' if name.startswith('torch') else 'host'}"
    return "unknown"
