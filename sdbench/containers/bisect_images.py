"""Two images of a bisection compared: interleaved in containers, with more launches where the first ones do not say."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from sdbench import exit_codes
from sdbench.compare.comparison import Comparison, compare_runs
from sdbench.containers.engine import Emit
from sdbench.containers.run_images import ImageRequest, run_images
from sdbench.plan.make_plan import PlanRequest
from sdbench.runner.ab import ArmCannotRun
from sdbench.schema.base import sha256_of
from sdbench.store.run import Run, load_run

# Containers that alternate on one boot differ from launch to launch, and the schedule is looked at once, at its end. A
# second one, whose launches alone count, errs as rarely as the first: both together twice as often as one.
_TRIES = 2
# What is needed is estimated from a few launches.
_MORE = 1.5
_ID_DIGITS = 12


def measure_images(
    request: PlanRequest, images: tuple[str, str], gpus: str, out: Path, margin: float, emit: Emit
) -> tuple[Run, Run]:
    """Return the runs of two images, measured again with more launches where the verdict needs them.

    Raises:
        UserError: the manifest is invalid.
        ArmCannotRun: an image gave no run, or both are the same.
        EnvironmentProblem: the engine does not answer, or the folder is not writable.
        KeyboardInterrupt: the user stopped it; the containers' runs are collected.
    """
    both = _measure(request, images, gpus, out, emit)
    for _ in range(1, _TRIES):
        needed = _launches_needed(compare_runs(*both, margin))
        if needed is None or both[0].record.ended != "complete":
            break
        emit(f"not resolved yet: measuring both images with {needed} launches each")
        settings = (f"protocol.launches_min={needed}", f"protocol.launches_max={needed}")
        both = _measure(replace(request, settings=(*request.settings, *settings)), images, gpus, out, emit)
    return both


def _launches_needed(comparison: Comparison) -> int | None:
    """How many launches of each image would probably resolve what is inconclusive; None where that is nothing."""
    open_ones = [item.judgements[0] for item in comparison.experiments if item.judgements[0].verdict == "inconclusive"]
    missing = [min(item.units) + _MORE * item.more_units for item in open_ones if item.more_units is not None]
    return ceil(max(missing)) if missing else None


def _measure(request: PlanRequest, images: tuple[str, str], gpus: str, out: Path, emit: Emit) -> tuple[Run, Run]:
    # The same comparison has the same id: what an interruption left on the host is continued.
    schedule_id = sha256_of([images, request.assignments, request.only, str(out)])[:_ID_DIGITS]
    runs = run_images(request, ImageRequest(images, gpus=gpus, schedule_id=schedule_id), out, emit)
    if runs.exit_code == exit_codes.INTERRUPTED:
        raise KeyboardInterrupt
    if len(runs.folders) != len(images):
        raise _explain(images, runs.problems)
    first, second = map(load_run, runs.folders)
    return first, second


def _explain(images: tuple[str, str], problems: Sequence[str]) -> ArmCannotRun:
    if not problems:
        return ArmCannotRun("b", f"it is the same image as {images[0]}")
    arm = "b" if any(images[1] in text for text in problems) else "a"
    return ArmCannotRun(arm, "; ".join(problems))
