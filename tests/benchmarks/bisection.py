"""Whether a bisection of eight virtual arms blames the guilty one, in how many comparisons, and nobody where all equal.

Everything but the worker's process is real: the sessions of ``run_ab`` with their stopping rule, journals, records and
verdicts. A launch runs in this process, because starting one costs a hundred times what it simulates.

``python -m tests.benchmarks.bisection TRIES``.
"""

import sys
import tempfile
from pathlib import Path

from sdbench.compare.bisection import Bisection
from sdbench.compare.policy import MARGIN
from sdbench.plan.make_plan import PlanRequest
from sdbench.probes.virtual import VARIABLE
from sdbench.runner.ab import run_ab
from sdbench.runner.bisect import bisect
from sdbench.runner.bisect_spec import BisectSpec, Question
from sdbench.store.run import Run
from tests.benchmarks.bars import Bar
from tests.runner.in_process import launches_in_process

TRIES = 100
ARMS = 8
EFFECT = 1.05
COMPARISONS_MAX = 4
_FOUND_MIN, _UNBLAMED_MIN = 0.95, 0.99
# Noise as of full-size calls on a quiet server: launches vary by 1 %, calls by half of that.
_MANIFEST = """\
schema: sdbench/manifest/v1
title: Virtual arms
model: {pipeline: tiny-sd}
defaults: {backend: virtual, height: 64, width: 64, steps: 4}
protocol: {warmup_calls: 1, calls_min: 2, calls_max: 2}
experiments:
  - id: virtual
    title: Virtual
    options:
      virtual: {latency_s: 0.1, call_noise: 0.005, launch_noise: 0.01}
"""


def measure_bisection(tries: int = TRIES) -> list[Bar]:
    """Return in how many bisections the guilty arm was found, and in how many of equal arms nobody was blamed."""
    with tempfile.TemporaryDirectory() as folder, launches_in_process():
        guilty = [_try(Path(folder) / f"guilty-{number}", number, number % (ARMS - 1) + 1) for number in range(tries)]
        equal = [_try(Path(folder) / f"equal-{number}", tries + number, ARMS) for number in range(tries)]
    found_count = sum(
        item.first_bad == number % (ARMS - 1) + 2 and item.comparison_count <= COMPARISONS_MAX
        for number, item in enumerate(guilty)
        if item.result == "found"
    )
    wrong = sum(item.result == "found" for item in guilty) - found_count
    unblamed = sum(item.result != "found" for item in equal)
    nothing = sum(item.result == "nothing" for item in equal)
    return [
        Bar(
            f"bisection of {ARMS} virtual arms, one makes it {EFFECT - 1:.0%} slower",
            f"found in at most {COMPARISONS_MAX} comparisons in {found_count} of {tries}, another blamed in {wrong}",
            f"in {_FOUND_MIN:.0%}",
            found_count >= _FOUND_MIN * tries and wrong == 0,
        ),
        Bar(
            f"bisection of {ARMS} equal virtual arms",
            f"nobody blamed in {unblamed} of {tries} (shown to be the same in {nothing})",
            f"in {_UNBLAMED_MIN:.0%}",
            unblamed >= _UNBLAMED_MIN * tries,
        ),
    ]


def _try(folder: Path, seed: int, guilty: int) -> Bisection:
    """A bisection in which the arm of this index (from 0) and all after it are slower."""
    folder.mkdir()
    manifest = folder / "manifest.yaml"
    manifest.write_text(_MANIFEST)
    values = tuple(f"factor={EFFECT if arm >= guilty else 1.0}" for arm in range(ARMS))

    def measure(question: Question) -> tuple[Run, Run]:
        arms = (question.first,), (question.other,)
        return run_ab(question.request, arms, out=folder, margin=MARGIN, seed=1000 * seed + question.number)

    request = PlanRequest(manifest, device="cpu")
    spec = BisectSpec(request, f"env.{VARIABLE}", values, folder, MARGIN, machine="")
    bisection = bisect(spec, measure, lambda _text: None).bisection
    sys.stderr.write(f"{folder.name}: {bisection.result} {bisection.first_bad} in {bisection.comparison_count}\n")
    return bisection


if __name__ == "__main__":
    for bar in measure_bisection(int(sys.argv[1]) if len(sys.argv) > 1 else TRIES):
        sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar})\n")
