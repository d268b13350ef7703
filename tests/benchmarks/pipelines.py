"""What the pipelines take: SDXL and a cut FLUX at full width in memory, the tiny ones in time; the same pictures."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sdbench.schema.outcome import Launch, launches_of
from sdbench.schema.record import Result
from sdbench.store.bundle import load_record
from tests.benchmarks.bars import Bar, at_most

GB = 1e9
SDXL_GB, FLUX_GB, TINY_LAUNCH_S = 12.0, 16.0, 3.0
HEADER = """\
schema: sdbench/manifest/v1
title: Pipelines
protocol: {launches_min: 1, launches_max: 1, warmup_calls: 1, calls_min: 1, calls_max: 1}
experiments:
"""
FULL_WIDTH = HEADER + (
    "- {id: sdxl, title: SDXL, options: {pipeline: sdxl, precision: bf16, steps: 1}}\n"
    "- {id: flux, title: FLUX, options: {pipeline: flux.1-schnell, precision: bf16, steps: 1, height: 512,\n"
    "   width: 512, config: {transformer.num_layers: 1, transformer.num_single_layers: 2}}}\n"
)
TINY = HEADER + (
    "- {id: a, title: A, options: {height: 64, width: 64, steps: 2},\n"
    "   matrix: {pipeline: [tiny-sd, tiny-sdxl, tiny-sd3, tiny-flux, tiny-z-image], batch: [1, 4]}}\n"
)


def measure_full_width() -> list[Bar]:
    """Return the peaks of SDXL at 1024x1024 and of FLUX with 1 + 2 blocks at 512x512, in bf16 and one step."""
    sdxl, flux = (_only_launch(result) for result in _run(FULL_WIDTH))
    bars = []
    for name, launch, limit_gb in (("SDXL, 1024x1024", sdxl, SDXL_GB), ("FLUX, 1 + 2 blocks, 512x512", flux, FLUX_GB)):
        peak = launch.memory.host_rss_peak_bytes
        bars.append(at_most(f"{name}, bf16, 1 step: peak RSS", getattr(peak, "value", 1e30) / GB, limit_gb, "GB"))
        finite = all(image.finite and not image.constant for image in launch.images)
        bars.append(Bar(f"{name}: finite", str(finite), "True", finite))
    return bars


def measure_tiny() -> list[Bar]:
    """Return the slowest launch of the tiny pipelines, and which pictures differ between batches and isolations."""
    forked, spawned = _run(TINY), _run(TINY, "--set=protocol.isolation=spawn")
    slowest = max((_only_launch(result) for result in forked), key=lambda launch: launch.wall_s)
    pictures = {
        (result.planned.experiment.pipeline, result.planned.experiment.batch): _only_launch(result).images[0].sha256
        for result in forked
    }
    names = {pipeline for pipeline, _ in pictures}
    batches = sorted(name for name in names if pictures[name, 1] != pictures[name, 4])
    isolations = [
        result.planned.label
        for result, other in zip(forked, spawned, strict=True)
        if _only_launch(result).images[0].sha256 != _only_launch(other).images[0].sha256
    ]
    return [
        at_most("tiny pipelines: slowest forked launch", slowest.wall_s, TINY_LAUNCH_S, "s"),
        Bar("image 0 of batches 1 and 4, fp32", _differ(batches), "same bytes", not batches),
        Bar("image 0, forked and spawned, fp32", _differ(isolations), "same bytes", not isolations),
    ]


def _differ(names: Sequence[str]) -> str:
    return f"{len(names)} differ: {', '.join(names)}" if names else "same bytes"


def _run(manifest: str, *options: str) -> tuple[Result, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipelines.yaml"
        path.write_text(manifest)
        command = (sys.executable, "-m", "sdbench", "run", str(path), "--device=cpu", f"--out={folder}", *options)
        subprocess.run(command, check=True, capture_output=True)
        (record,) = Path(folder).glob("*/record.json")
        return load_record(record).results


def _only_launch(result: Result) -> Launch:
    (launch,) = launches_of(result.outcome)
    return launch


if __name__ == "__main__":
    from tests.benchmarks.bars import format_table

    sys.stdout.write(format_table(measure_tiny() + (measure_full_width() if "--full" in sys.argv else [])) + "\n")
