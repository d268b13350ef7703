"""What the table of operators costs, whether its rows add up, and whether what ran is the same in every launch.

A launch is a process that was forked from one with the libraries imported, as in a run; each is the first of its
experiment, so that it profiles a call where that is wanted.
"""

import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from math import fsum
from pathlib import Path
from statistics import median
from typing import Any

from sdbench.backends import BACKENDS
from sdbench.report.render import write_view
from sdbench.report.view import build_view
from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.operators import OUTSIDE, OperatorRow, OperatorTable
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record
from sdbench.schema.wire import Measurement, WorkerRequest
from sdbench.stats.adjusted import adjusted_paired_ratio
from sdbench.stats.ratios import paired_ratio
from sdbench.store.cache_folder import cache_folder
from tests.benchmarks.bars import Bar, at_most
from tests.records import make_launch, make_record, make_result
from tests.views import make_run

PAIRS, CONFIDENCE, LIMIT = 20, 0.95, 0.01
LOW, HIGH = 0.95, 1.05
RECORD_MB, REPORT_KIB, EXPERIMENTS = 1.5, 150.0, 40
TINY: dict[str, dict[str, Any]] = {
    "tiny-sd": {},
    "tiny-sdxl": {"pipeline": "tiny-sdxl"},
    "tiny-sd3": {"pipeline": "tiny-sd3", "scheduler": "flow-euler"},
    "tiny-flux": {"pipeline": "tiny-flux", "scheduler": "flow-euler"},
    "tiny-z-image": {"pipeline": "tiny-z-image", "scheduler": "flow-euler"},
    "tiny-sd, onnxruntime": {"backend": "onnxruntime"},
}


def measure_operators(pairs: int = PAIRS) -> list[Bar]:
    """Return the bars of the table of operators."""
    command = [sys.executable, "-m", "tests.benchmarks.operators", str(pairs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "."})
    bars = [Bar(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    return [*bars, *measure_sizes()]


def measure_sizes() -> list[Bar]:
    """Return what tables of 40 experiments add to a record and to a report."""
    plain, full = (_make_record(with_tables=with_tables) for with_tables in (False, True))
    record_mb = (len(full.model_dump_json()) - len(plain.model_dump_json())) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        pages = [write_view(build_view([make_run(record)]), page).stat().st_size for record in (plain, full)]
    return [
        at_most(f"tables of {EXPERIMENTS} experiments: record", record_mb, RECORD_MB, "MB"),
        at_most(f"tables of {EXPERIMENTS} experiments: report", (pages[1] - pages[0]) / 1024, REPORT_KIB, "KiB"),
    ]


def _make_record(*, with_tables: bool) -> Record:
    results = []
    for seed in range(EXPERIMENTS):
        launches = [make_launch(index, 1.0) for index in range(8)]
        if with_tables:
            launches[0] = make_launch(0, 1.0, operators=Known(value=_make_table(seed)))
        results.append(make_result(Succeeded(launches=tuple(launches), stop_reason="budget"), seed=seed))
    return make_record(results=tuple(results))


def _make_table(seed: int) -> OperatorTable:
    """Return the largest table: 60 rows with names of kernels, and the rest and what is outside of 6 phases."""
    fields = {"calls": 12_345, "self_s": 0.012345678901234567 + seed, "shapes": "0123abcd"}
    numbers = {"flop": 123_456_789_012 + seed, "bytes": 1_234_567_890}
    rows = [
        OperatorRow(
            phase="denoise_step", operator=f"aten::operator_{index}", kernel=f"{index:0120}", **fields, **numbers
        )
        for index in range(60)
    ]
    rows += [
        OperatorRow(phase=f"text_encoder_{index}", operator=OUTSIDE, kernel=None, **fields, flop=None, bytes=None)
        for index in range(12)
    ]
    ran = {"attention": "flash", "convolution": "cuDNN", "gemm": "cuBLAS, cutlass", "gemm precision": "bf16"}
    given: dict[str, Any] = {"profiler": "torch.profiler 2.13.0+cu130", "call_count": 5, "call_s": 1.0}
    return OperatorTable(**given, rows=tuple(rows), ran=ran, host_wait_count=10, host_wait_s=0.1)


def _measure_in_process(pairs: int) -> list[Bar]:
    """Return what needs torch; in a process of its own that has imported it and computed nothing."""
    from sdbench.backends import onnxruntime

    onnxruntime.import_libraries()
    for options in TINY.values():
        _in_fork(_fetch, _experiment(options))
    shares = {name: _share(_launch(_experiment(options), "always")) for name, options in TINY.items()}
    worst = max(shares.values(), key=lambda share: abs(share - 1))
    text = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    bars = [Bar("rows of a table / profiled call", text, f"{LOW:.0%} to {HIGH:.0%}", LOW <= worst <= HIGH)]
    arms: dict[str, list[Measurement]] = {"always": [], "never": []}
    for index in range(pairs):
        for wanted in ("always", "never") if index % 2 else ("never", "always"):
            arms[wanted].append(_launch(_experiment({}), wanted))
    return [*bars, _compare_ran(arms["always"]), *_compare_arms(arms["always"], arms["never"])]


def _experiment(options: dict[str, Any]) -> Experiment:
    return Experiment(**{"pipeline": "tiny-sd", "height": 64, "width": 64, "steps": 4, "threads": 1} | options)


def _launch(experiment: Experiment, wanted: str) -> Measurement:
    protocol = Protocol(operators=wanted, warmup_calls=2, calls_min=10, calls_max=10)
    given = {"experiment": experiment, "protocol": protocol, "device": "cpu", "cache_folder": str(cache_folder())}
    request = WorkerRequest(**given, image_prefix=None, is_first=True)
    return Measurement.model_validate_json(_in_fork(_run, request))


def _in_fork(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``work`` returns in a process that is forked for it, or raise what it raises there."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, arguments)


def _fetch(experiment: Experiment) -> None:
    module = import_module(BACKENDS[experiment.backend])
    module.fetch(experiment, "cpu", cache_folder(), lambda _stage: None)


def _run(request: WorkerRequest) -> str:
    from sdbench.worker.events import EventWriter
    from sdbench.worker.launch import run_launch

    return run_launch(request, EventWriter(io.BytesIO()), 0.0).model_dump_json()


def _share(measurement: Measurement) -> float:
    table = _table(measurement)
    return fsum(row.self_s for row in table.rows) / table.call_s


def _table(measurement: Measurement) -> OperatorTable:
    if not isinstance(measurement.operators, Known):
        raise RuntimeError(measurement.operators.reason)  # noqa: TRY004 - what was measured, not a type
    return measurement.operators.value


def _compare_ran(launches: list[Measurement]) -> Bar:
    ran = [tuple(sorted(_table(item).ran.items())) for item in launches]
    same = max(map(ran.count, ran))
    return Bar("what ran, in launches of one configuration", f"{same} of {len(ran)} the same", "all", same == len(ran))


def _compare_arms(with_table: list[Measurement], without: list[Measurement]) -> list[Bar]:
    """Return the ratio of timed calls with and without a table, and at equal speed of the machine."""
    calls_s = [[median(item.series[0].steady) for item in arm] for arm in (with_table, without)]
    references_s = [
        [item.reference_operation.value.typical_s for item in arm if isinstance(item.reference_operation, Known)]
        for arm in (with_table, without)
    ]
    adjusted = adjusted_paired_ratio(*calls_s, *references_s)
    ratios = {
        "timed calls, with / without a table": paired_ratio(*calls_s),
        "the same, at equal reference": adjusted.ratio if adjusted else None,
    }
    bars = []
    for name, ratio in ratios.items():
        if ratio is not None:
            low, high = ratio.interval(CONFIDENCE)
            met = True if low >= 1 - LIMIT and high <= 1 + LIMIT else None
            met = False if low > 1 + LIMIT or high < 1 - LIMIT else met
            text = f"{ratio.value:.4f} [{low:.4f}, {high:.4f}], {len(without)} launches each"
            bars.append(Bar(name, text, f"interval within {LIMIT:.0%}", met))
    cost = median(_table(item).call_s / call_s for item, call_s in zip(with_table, calls_s[0], strict=True))
    return [*bars, Bar("profiled call / timed call", f"{cost:.2f}")]


if __name__ == "__main__":
    for bar in _measure_in_process(int(sys.argv[1])):
        sys.stdout.write(json.dumps(vars(bar)) + "\n")
