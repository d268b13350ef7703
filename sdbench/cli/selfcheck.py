"""``sdbench selfcheck``: how far sdbench itself can be trusted on this machine, now."""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.options import add_json_option, read_count
from sdbench.cli.output import show, show_progress
from sdbench.cli.progress import open_listener
from sdbench.cli.run_folders import refuse_to_replace
from sdbench.compare.comparison import Comparison, compare_runs
from sdbench.compare.policy import MARGIN
from sdbench.compare.selfcheck import SEED, all_bars_met, simulate_rules
from sdbench.errors import EnvironmentProblem
from sdbench.plan.make_plan import PlanRequest
from sdbench.report.selfcheck_page import format_page
from sdbench.runner.ab import run_ab
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.schema.wire import Overhead
from sdbench.store.files import write_whole
from sdbench.units import parse_duration_s

# The rest of the budget goes to the real session, which needs most of it.
_OVERHEAD_SHARE = 0.15
_OVERHEAD_START_S = 20.0
_MANIFEST = """\
schema: sdbench/manifest/v1
title: This machine against itself
protocol: {warmup_calls: 2, calls_min: 5, calls_max: 5}
experiments:
  - id: itself
    title: tiny-sd against itself
    options: {pipeline: tiny-sd, height: 64, width: 64, steps: 4}
"""
# Fewer show nothing about rates of 0.1 %; more need more memory than they are worth.
_TRIALS_MIN, _TRIALS_MAX = 1_000, 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--budget", type=parse_duration_s, default="5m", metavar="TIME", help="duration (default: 5m)")
    trials = partial(read_count, least=_TRIALS_MIN, most=_TRIALS_MAX)
    parser.add_argument("--trials", type=trials, default=20_000, metavar="N", help="simulated per noise model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the page there instead of printing it")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Run every check within the budget, print the page, and return 0 where all bars are met."""
    if options.out is not None:
        refuse_to_replace(options.out, (".md",))
    started_s = time.monotonic()
    check = simulate_rules(options.trials)
    if find_spec("torch") is not None:
        overhead = _measure_overhead(_OVERHEAD_SHARE * options.budget)
        left_s = options.budget - (time.monotonic() - started_s)
        session = _measure_itself(left_s, options) if left_s > 0 else None
        check = check.model_copy(update={"session": session, "overhead": overhead})
    page = check.model_dump_json() if options.json else format_page(check)
    if options.out is None:
        show(page)
    else:
        write_whole(options.out, (page.rstrip() + "\n").encode())
        show_progress(f"written to {options.out}")
    return 0 if all_bars_met(check) else exit_codes.CHECK_FAILED


def _measure_overhead(budget_s: float) -> Overhead:
    """The cost of the measuring loop, in a process of its own, as a worker is."""
    command = [sys.executable, "-m", "sdbench.worker.overhead", str(max(1.0, budget_s - _OVERHEAD_START_S))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EnvironmentProblem(f"the measuring loop cannot be checked: {why[:200]}; see sdbench doctor")
    return Overhead.model_validate_json(done.stdout)


def _measure_itself(budget_s: float, options: argparse.Namespace) -> Comparison:
    """A session of this machine against itself, both arms identical."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "itself.yaml"
        manifest.write_text(_MANIFEST)
        request = PlanRequest(manifest, device=options.device, budget_s=budget_s)
        with terminate_as_interrupt(), open_listener(quiet=options.quiet) as listener:
            a, b = run_ab(request, ((), ()), out=Path(folder), seed=SEED, listener=listener)
    if a.record.ended == "interrupted":
        raise KeyboardInterrupt
    return compare_runs(a, b, MARGIN)
