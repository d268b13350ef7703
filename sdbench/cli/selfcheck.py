"""``sdbench selfcheck``: how far sdbench itself can be trusted on this machine, now."""

import argparse
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import sdbench
from sdbench.cli.ab import ab_spec
from sdbench.cli.progress import open_listener
from sdbench.cli.runs import refuse_to_replace
from sdbench.cli.selfcheck_page import format_page
from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.selfcheck import (
    SEED,
    SelfCheck,
    all_bars_met,
    check_arithmetic,
    simulate_all,
    simulate_all_coverage,
    simulate_near,
)
from sdbench.compare.verdicts import MARGIN
from sdbench.errors import EnvironmentProblem
from sdbench.runner.alternate import alternate
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.schema.wire import Overhead
from sdbench.store.files import write_whole
from sdbench.units import parse_duration_s

EXIT_NOT_MET = 1
# What is left of the budget goes to the real session, which needs most of it.
_OVERHEAD_SHARE = 0.15
_OVERHEAD_START_S = 20.0
_MANIFEST = """\
schema: sdbench/manifest/v1
title: This machine against itself
protocol: {warmup_calls: 1, calls_min: 3, calls_max: 3, phase_calls: 1}
experiments:
  - id: itself
    title: The tiny architecture against itself
    options: {architecture: tiny, height: 64, width: 64, steps: 4}
"""


def execute(options: argparse.Namespace) -> int:
    """Run every check within the budget, print the page, and say by the exit code whether all bars are met."""
    budget_s = parse_duration_s(options.budget)
    if options.out is not None:
        refuse_to_replace(options.out, (".md",))
    started_s = time.monotonic()
    alike, in_suite, changed = simulate_all(options.trials)
    near, coverage = simulate_near(options.trials), simulate_all_coverage(options.trials)
    overhead, session = None, None
    if find_spec("torch") is not None:
        overhead = _measure_overhead(_OVERHEAD_SHARE * budget_s)
        left_s = budget_s - (time.monotonic() - started_s)
        session = _measure_itself(left_s, options) if left_s > 0 else None
    found = SelfCheck(
        sdbench_version=sdbench.__version__,
        seed=SEED,
        arithmetic=check_arithmetic(),
        alike=alike,
        alike_in_suite=in_suite,
        changed=changed,
        near=near,
        coverage=coverage,
        session=session,
        overhead=overhead,
    )
    page = found.model_dump_json() if options.json else format_page(found)
    if options.out is None:
        print(page)
    else:
        write_whole(options.out, (page.rstrip() + "\n").encode())
        print(f"written to {options.out}", file=sys.stderr)
    return 0 if all_bars_met(found) else EXIT_NOT_MET


def _measure_overhead(budget_s: float) -> Overhead:
    """What the measuring loop costs, in a process of its own, as a worker is.

    Raises:
        EnvironmentProblem: the process failed; its last line says why.
    """
    command = [sys.executable, "-m", "sdbench.worker.overhead", str(max(1.0, budget_s - _OVERHEAD_START_S))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EnvironmentProblem(f"the measuring loop cannot be checked: {why[:200]}; see sdbench doctor")
    return Overhead.model_validate_json(done.stdout)


def _measure_itself(budget_s: float, options: argparse.Namespace) -> Comparison:
    """A session of this machine against itself, both sides the same."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "itself.yaml"
        manifest.write_text(_MANIFEST)
        asked = argparse.Namespace(
            manifest=manifest,
            only=[],
            device=options.device,
            weights=None,
            budget=f"{budget_s:.3f}s",
            settings=[],
            a=[],
            b=[],
            seed=SEED,
            out=Path(folder),
            quiet=options.quiet,
            json=False,
        )
        with terminate_as_interrupt(), open_listener(asked) as listener:
            a, b = alternate(ab_spec(asked, MARGIN, SEED), listener)
    if a.record.ended == "interrupted":
        raise KeyboardInterrupt
    return compare_records([a.record], [b.record], MARGIN)
