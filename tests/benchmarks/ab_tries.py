"""Whether ``ab`` finds a slowdown of 5 % on `tiny-sd` within five minutes, and none where there is none.

``python -m tests.benchmarks.ab_tries TRIES FOLDER`` takes up to ten minutes a try, half of it for two identical arms,
and keeps the records in the folder, where ``tests.benchmarks.adjustment_records`` reads them.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from sdbench.compare.comparison import compare_runs
from sdbench.compare.policy import MARGIN
from sdbench.plan.make_plan import PlanRequest, make_plan
from sdbench.runner.ab import make_session
from sdbench.runner.interleave import interleave
from sdbench.runner.spec import RunSpec
from sdbench.schema.outcome import launches_of
from sdbench.units import format_duration
from tests.benchmarks.bars import Bar
from tests.benchmarks.slow_template import DELAY, SLOW_SEED

TRIES = 10
FOUND_MIN = 8
BUDGET_S = 300.0
MANIFEST = """\
schema: sdbench/manifest/v1
title: A slowdown to find
model: {pipeline: tiny-sd}
protocol: {warmup_calls: 3, calls_min: 15, calls_max: 15}
defaults: {height: 64, width: 64, steps: 4}
experiments:
  - id: tiny
    title: Tiny
    options: {seed: 1}
"""
_TEMPLATE_COMMAND = (sys.executable, "-m", "tests.benchmarks.slow_template")


def measure_ab(tries: int = TRIES, folder: Path | None = None) -> list[Bar]:
    """Return in how many sessions a slowdown was found, and in how many one that is not there."""
    with tempfile.TemporaryDirectory() as own:
        slowed, same = (
            [_try(number, seed, (folder or Path(own)) / f"{name}-{number}") for number in range(tries)]
            for name, seed in (("slowed", SLOW_SEED), ("same", SLOW_SEED + 1))
        )
    found_count = sum(verdict == "slower" for verdict, _ in slowed)
    alarms = sum(verdict in ("slower", "faster") for verdict, _ in same)
    return [
        Bar(
            f"ab on tiny-sd, a slowdown of {DELAY:.0%}, {format_duration(BUDGET_S)} a try",
            f"found in {found_count} of {tries}: {_list(slowed)}",
            f"in {FOUND_MIN} of {TRIES}",
            found_count >= FOUND_MIN / TRIES * tries,
        ),
        Bar("ab on tiny-sd, A/A", f"{alarms} false alarms in {tries}: {_list(same)}", "0", alarms == 0),
    ]


def _try(number: int, other_seed: int, folder: Path) -> tuple[str, str]:
    """The verdict of a session of seed 1 against another seed, and its ratio, blocks and time."""
    folder.mkdir(parents=True)
    path = folder / "manifest.yaml"
    path.write_text(MANIFEST)
    started_s = time.monotonic()
    first, second = interleave((_arm(path, "a", 1, number), _arm(path, "b", other_seed, number)), MARGIN, _ignore)
    taken_s = time.monotonic() - started_s
    judgement = compare_runs(first, second).experiments[0].judgements[0]
    count = len(launches_of(first.record.results[0].outcome)) // 2
    change = f"{100 * ((judgement.ratio or 1) - 1):+.1f} %"
    text = f"{judgement.verdict} {change} ({count} blocks, {format_duration(taken_s)})"
    sys.stderr.write(f"seed {other_seed}, try {number + 1}: {text}\n")
    return judgement.verdict, text


def _arm(path: Path, name: str, seed: int, number: int) -> RunSpec:
    plan = make_plan(PlanRequest(path, settings=(f"seed={seed}",), device="cpu", budget_s=BUDGET_S))
    session = make_session(f"try-{number}", "a" if name == "a" else "b", number, (f"seed={seed}",))
    return replace(RunSpec(plan, path.parent, fresh=True), session=session, template_command=_TEMPLATE_COMMAND)


def _list(tried: list[tuple[str, str]]) -> str:
    return "; ".join(text for _, text in tried)


def _ignore(_event: object) -> None:
    pass


if __name__ == "__main__":
    for bar in measure_ab(int(sys.argv[1]), Path(sys.argv[2])):
        sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar})\n")
