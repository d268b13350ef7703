"""Forked launches against spawned ones: the same latency, the same spread, and how many more of them fit into a minute.

``python -m tests.benchmarks.isolation ROUNDS`` measures the first two; 60 rounds take half an hour on two CPUs.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from math import log, sqrt
from pathlib import Path
from random import Random
from statistics import stdev

from scipy import stats

from sdbench.plan.make_plan import PlanRequest, make_plan
from sdbench.runner.ab import run_ab
from sdbench.runner.launch import launch
from sdbench.runner.run import measure, run_plan
from sdbench.runner.spec import RunSpec
from sdbench.runner.state import Ended, RunState
from sdbench.schema.base import Known
from sdbench.schema.metrics import latency_s
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Result
from sdbench.stats.ratios import paired_ratio
from sdbench.store.run import Run
from tests.benchmarks.bars import Bar

ROUNDS = 60
SEED = 1
CONFIDENCE = 0.95
LATENCY_LIMIT = 0.01
SPREAD_LIMIT = 0.8
ISOLATIONS = ("fork", "spawn")
MANIFEST = """\
schema: sdbench/manifest/v1
title: Fork against spawn
model: {pipeline: tiny-sd}
protocol: {warmup_calls: 2, calls_min: 5, calls_max: 5, launches_min: 1000, launches_max: 1000}
defaults: {steps: 4}
experiments:
  - id: small
    title: Small
    options: {height: 64, width: 64}
  - id: larger
    title: Larger
    options: {height: 256, width: 256}
"""
RATE_MANIFEST = """\
schema: sdbench/manifest/v1
title: Launches a minute
model: {pipeline: tiny-sd}
protocol: {warmup_calls: 2, calls_min: 5, calls_max: 5, launches_min: 2, launches_max: 2}
defaults: {height: 64, width: 64, steps: 4}
experiments:
  - id: grid
    title: Grid
    matrix: {seed: SEEDS}
"""
MANY_POINTS, ONE_POINT = 16, 1
RATE_LIMIT = 4.5
BLOCKS_LIMIT = 4.0
AB_BUDGET_S = 120.0


def measure_isolation(rounds: int = ROUNDS) -> list[Bar]:
    """Return for each point the ratio fork / spawn of latency and of the spread between launches, with intervals."""
    with tempfile.TemporaryDirectory() as folder:
        specs = [_spec(Path(folder), isolation) for isolation in ISOLATIONS]
        runs = measure(specs, lambda states: _alternate(states, rounds), lambda _event: None)
        return [bar for index in range(len(specs[0].plan.planned)) for bar in _compare(runs, index)]


def _spec(folder: Path, isolation: str) -> RunSpec:
    path = folder / "manifest.yaml"
    path.write_text(MANIFEST)
    plan = make_plan(PlanRequest(path, settings=(f"protocol.isolation={isolation}",), device="cpu"))
    return replace(RunSpec(plan, folder / isolation), fresh=True)


def _alternate(states: Sequence[RunState], rounds: int) -> Ended:
    """Launch every point once in each isolation, round by round; which comes first is drawn."""
    random = Random(SEED)
    for _ in range(rounds):
        for state in random.sample(states, len(states)):
            state.launcher.start_round()
            for progress in state.progress:
                launch(state, progress)
    return "interrupted"


def _compare(runs: Sequence[Run], index: int) -> list[Bar]:
    results = [run.record.results[index] for run in runs]
    forked, spawned = ([latency_s(item) or 0.0 for item in launches_of(result.outcome)] for result in results)
    count = min(len(forked), len(spawned))
    ratio = paired_ratio(forked[:count], spawned[:count])
    if ratio is None:
        raise RuntimeError("too few launches for an interval")
    low, high = ratio.interval(CONFIDENCE)
    label = results[0].planned.label
    spreads = [stdev(map(log, values)) for values in (forked, spawned)]
    spread = spreads[0] / spreads[1]
    quantiles = stats.f.ppf([(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2], len(forked) - 1, len(spawned) - 1)
    spread_low, spread_high = (spread / sqrt(quantile) for quantile in quantiles)
    return [
        Bar(
            f"{label}: latency, fork / spawn",
            f"{ratio.value:.4f} [{low:.4f}, {high:.4f}], {count} launches each",
            f"interval within {LATENCY_LIMIT:.0%}",
            _judge_interval(low, high),
        ),
        Bar(f"{label}: reference operation, fork / spawn", _describe_references(results)),
        Bar(
            f"{label}: standard deviation between launches, fork / spawn",
            f"{spread:.2f} [{spread_low:.2f}, {spread_high:.2f}] of {spreads[1]:.2%}",
            f"not below {SPREAD_LIMIT}",
            None if spread_low < SPREAD_LIMIT <= spread_high else spread_low >= SPREAD_LIMIT,
        ),
    ]


def _judge_interval(low: float, high: float) -> bool | None:
    """Whether the interval lies within the limit; None where it only crosses it."""
    if low >= 1 - LATENCY_LIMIT and high <= 1 + LATENCY_LIMIT:
        return True
    return False if low > 1 + LATENCY_LIMIT or high < 1 - LATENCY_LIMIT else None


def _describe_references(results: Sequence[Result]) -> str:
    """Whether the machine itself was equally fast in both."""
    forked, spawned = (
        [item.value.typical_s for item in readings if isinstance(item, Known)]
        for readings in ([launch.reference_operation for launch in launches_of(result.outcome)] for result in results)
    )
    count = min(len(forked), len(spawned))
    ratio = paired_ratio(forked[:count], spawned[:count])
    if ratio is None:
        return "too few"
    low, high = ratio.interval(CONFIDENCE)
    return f"{ratio.value:.4f} [{low:.4f}, {high:.4f}]"


def measure_rates() -> list[Bar]:
    """Return how many more launches, and blocks of ``ab``, fit into a minute when they are forked."""
    rates = {isolation: _launches_per_min(isolation, MANY_POINTS, launches=2) for isolation in ISOLATIONS}
    alone = {isolation: _launches_per_min(isolation, ONE_POINT, launches=8) for isolation in ISOLATIONS}
    blocks = {isolation: _blocks_per_min(isolation) for isolation in ISOLATIONS}
    ratio = rates["fork"] / rates["spawn"]
    return [
        Bar(
            f"launches a minute on tiny-sd, {MANY_POINTS} points a round, fork / spawn",
            f"{ratio:.2f} ({rates['fork']:.1f} / {rates['spawn']:.1f})",
            f"at least {RATE_LIMIT}",
            ratio >= RATE_LIMIT,
        ),
        Bar(
            "the same with one point, each of whose launches needs a template",
            f"{alone['fork'] / alone['spawn']:.2f} ({alone['fork']:.1f} / {alone['spawn']:.1f})",
        ),
        Bar(
            "blocks a minute of ab on tiny",
            f"{blocks['fork']:.1f} (spawned {blocks['spawn']:.1f})",
            f"at least {BLOCKS_LIMIT:g}",
            blocks["fork"] >= BLOCKS_LIMIT,
        ),
    ]


def _launches_per_min(isolation: str, points: int, launches: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.yaml"
        path.write_text(RATE_MANIFEST.replace("SEEDS", str(list(range(points)))))
        limits = (f"protocol.launches_{end}={launches}" for end in ("min", "max"))
        started_s = time.monotonic()
        settings = (f"protocol.isolation={isolation}", *limits)
        run = run_plan(make_plan(PlanRequest(path, settings=settings, device="cpu")), folder)
        minutes = (time.monotonic() - started_s) / 60
        return sum(len(launches_of(result.outcome)) for result in run.record.results) / minutes


def _blocks_per_min(isolation: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.yaml"
        path.write_text(RATE_MANIFEST.replace("SEEDS", "[1]"))
        settings = (f"protocol.isolation={isolation}",)
        request = PlanRequest(path, settings=settings, device="cpu", budget_s=AB_BUDGET_S)
        started_s = time.monotonic()
        # A margin that no interval lies within: the session lasts until its budget ends.
        first, second = run_ab(request, (("seed=1",), ("seed=1",)), out=Path(folder), margin=1e-6)
        minutes = (time.monotonic() - started_s) / 60
        count = sum(len(launches_of(result.outcome)) for run in (first, second) for result in run.record.results)
        return count / 4 / minutes


if __name__ == "__main__":
    for bar in measure_isolation(int(sys.argv[1]) if sys.argv[1:] else ROUNDS):
        sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar})\n")
