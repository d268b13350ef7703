"""Records into rows of the 2022 study's CSV: what its format cannot say is left out and counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sdbench.errors import UserError
from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import OutOfMemory, Published, Succeeded, counted_launches
from sdbench.schema.record import Record, Result
from sdbench.stats.intervals import estimate_latency
from sdbench.store.imports import AUTOCAST_SUFFIX
from sdbench.store.lambda_csv import Dialect, LambdaRow

# What the format has a column for, and what changes no time: the trained values, the seed, and where it was asked.
_FREE_OPTIONS = ("weights", "weights_seed", "hub_id", "revision", "seed", "device", "batch", "steps", "backend")
_EXPRESSIBLE = {"precision": ("fp32", "fp16"), "autocast": ("off", "fp16"), "attention": ("sdpa", "xformers")}
# Only one dialect has columns for these.
_FULL_ONLY = ("autocast", "attention")
_STUDY = Experiment(architecture="sd-v1-4")


@dataclass(frozen=True)
class Export:
    """The rows, and how many results the format cannot express or have no figure."""

    rows: tuple[LambdaRow, ...]
    left_out_count: int


def export_rows(records: Sequence[tuple[Record, str]], dialect: Dialect, steps: int | None = None) -> Export:
    """Return the rows of records, each given with its device's name, in their order.

    Args:
        records: the records, each with the name of the device it was made on.
        dialect: ``full`` has columns for autocast and xformers; elsewhere experiments with them are left out.
        steps: leave out experiments of other steps; without it, there must be no other.

    Raises:
        UserError: no row is left, figures of different steps, or two of one experiment on one device.
    """
    results = [(result, name) for record, name in records for result in record.results]
    found = [row for result, name in results if (row := _make_row(result, name, dialect))]
    rows = [row for row in found if steps in (None, row.experiment.steps)]
    if not rows:
        raise UserError(
            f"none of {len(results)} results can be exported; the format has only fp32 and fp16 latencies of "
            f"sd-v1-4 at 512x512{'' if steps is None else f', and only {steps} steps are asked for'}"
        )
    every_steps = sorted({row.experiment.steps for row in rows})
    if len(every_steps) > 1:
        listed = ", ".join(map(str, every_steps))
        raise UserError(f"mixed steps: {listed}; the format does not tell them apart: choose with --steps N")
    _refuse_duplicates(rows)
    return Export(tuple(rows), len(results) - len(rows))


def _refuse_duplicates(rows: Sequence[LambdaRow]) -> None:
    seen = set()
    for row in rows:
        e = row.experiment
        key = (row.device, e.precision, e.autocast, e.attention, e.backend, e.batch)
        if key in seen:
            raise UserError(f"{e.label!r} on {row.device!r} is there twice; name one run for each device")
        seen.add(key)


def _make_row(result: Result, device: str, dialect: Dialect) -> LambdaRow | None:
    if not _can_be_expressed(result.planned.experiment, dialect):
        return None
    match result.outcome:
        case OutOfMemory():
            latency_s, memory_bytes = None, None
        case Published() as published:
            latency_s, memory_bytes = published.latency_s, None
            if isinstance(published.memory_bytes, Known):
                memory_bytes = published.memory_bytes.value
        case Succeeded() as succeeded:
            latency_s, memory_bytes = _round_figures(succeeded, result.planned.protocol.confidence)
            if not latency_s:
                return None
        case _:
            return None
    return LambdaRow(
        line=0,
        device=device,
        experiment=result.planned.experiment,
        autocast_recorded=not result.planned.label.endswith(AUTOCAST_SUFFIX),
        latency_s=latency_s,
        memory_bytes=memory_bytes,
    )


def _can_be_expressed(experiment: Experiment, dialect: Dialect) -> bool:
    for name, value in experiment:
        if name in _FREE_OPTIONS:
            continue
        allowed = _EXPRESSIBLE.get(name, (getattr(_STUDY, name),))
        if name in _FULL_ONLY and dialect != "full":
            allowed = (getattr(_STUDY, name),)
        if value not in allowed:
            return False
    return True


def _round_figures(outcome: Succeeded, confidence: float) -> tuple[float | None, int | None]:
    """Latency (s) and memory (bytes) rounded as the tool did: to 0.01 s and to 1e7 bytes."""
    launches = counted_launches(outcome.launches)
    steady = [found.steady for launch in launches if (found := launch.find_series("latency")) and found.steady]
    if not steady or min(map(min, steady)) <= 0:
        return None, None
    reserved = [launch.memory.torch_reserved_peak_bytes for launch in launches]
    known = [reading.value for reading in reserved if isinstance(reading, Known)]
    return round(estimate_latency(steady, confidence).value, 2), round(round(median(known)), -7) if known else None
