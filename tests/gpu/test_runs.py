"""Whole runs on the GPU: the lock, an interruption and what it leaves, a search, and a loop without sdbench."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from sdbench.probes.nvml import open_nvml
from sdbench.schema.base import Known
from sdbench.schema.outcome import Launch, find_search, launches_of
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record
from sdbench.worker.clock import MonotonicClock
from sdbench.workloads.latency import time_call
from tests.gpu.machine import DEVICE, MODEL, ON_GPU, gpu_address

GIB = 2**30
PAIRS = 20
HEADER = """
schema: sdbench/manifest/v1
title: Test on a GPU
model: {pipeline: ARCHITECTURE, weights: synthetic}
protocol: {warmup_calls: 2, calls_min: 2, calls_max: 2, launches_min: LAUNCHES, launches_max: LAUNCHES}
defaults: OPTIONS
experiments:
"""


def write_manifest(folder: Path, experiment: str, launches: int) -> Path:
    path = folder / "manifest.yaml"
    options = {name: value for name, value in MODEL.items() if name != "pipeline"}
    text = HEADER.replace("LAUNCHES", str(launches)).replace("ARCHITECTURE", MODEL["pipeline"])
    path.write_text(f"{text.replace('OPTIONS', json.dumps(options))}  - {experiment}\n")
    return path


def command_of(manifest: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "sdbench", "run", str(manifest), "--device", DEVICE, "--out", str(out), "--quiet"]


def read_record(out: Path) -> Record:
    (path,) = out.glob("*/record.json")
    return load_record(path)


def launches(record: Record) -> list[Launch]:
    return [launch for result in record.results for launch in launches_of(result.outcome)]


def spans(record: Record) -> list[tuple[datetime, datetime]]:
    starts = [(datetime.fromisoformat(launch.started_utc), launch.wall_s) for launch in launches(record)]
    return [(start, start + timedelta(seconds=wall_s)) for start, wall_s in starts]


def processes() -> set[int]:
    if not ON_GPU:
        return set()
    listed = open_nvml().processes(gpu_address())
    return set(listed.value) if isinstance(listed, Known) else set()


def test_two_runs_share_the_gpu_one_after_the_other(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, "{id: one, title: One}", 2)
    outs = [tmp_path / "first", tmp_path / "second"]
    running = [subprocess.Popen(command_of(manifest, out)) for out in outs]
    assert [process.wait(300) for process in running] == [0, 0]
    first, second = sorted((spans(read_record(out)) for out in outs), key=min)
    assert max(end for _, end in first) <= min(start for start, _ in second) + timedelta(seconds=1)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=lambda kind: kind.name)
def test_stopped_run_leaves_the_gpu_free_and_is_resumed(
    kind: signal.Signals, tmp_path: Path, observe: Callable[..., None]
) -> None:
    before = processes()
    manifest, out = write_manifest(tmp_path, "{id: one, title: One}", 3), tmp_path / "out"
    running = subprocess.Popen(command_of(manifest, out))
    # Three launches take longer than this, and a first launch shorter.
    journal = wait_for(lambda: next(out.glob("*/journal.jsonl"), None))
    wait_for(lambda: '"launch"' in journal.read_text())
    running.send_signal(kind)
    code = running.wait(120)
    wait_for(lambda: processes() <= before)
    done = subprocess.run(command_of(manifest, out), timeout=300)
    observe(code=code)
    assert done.returncode == 0
    record = max((load_record(path) for path in out.glob("*/record.json")), key=lambda item: len(launches(item)))
    assert len(launches(record)) == 3
    assert record.ended == "complete"


def wait_for(look: Callable[[], Any]) -> Any:
    """Return what ``look`` returns as soon as that is true; the run's own time limits end what never comes."""
    for _ in range(3000):
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came")


@pytest.mark.skipif(not ON_GPU, reason="torch counts no memory on the CPU")
def test_search_finds_what_trying_every_batch_finds(
    tmp_path: Path, backend_of: Callable[..., Any], observe: Callable[..., None]
) -> None:
    limit_bytes = 12 * GIB
    options = f"{{workload: largest-batch, steps: 3, batch_max: 16, memory_limit_bytes: {limit_bytes}}}"
    manifest, out = write_manifest(tmp_path, f"{{id: one, title: One, options: {options}}}", 1), tmp_path / "out"
    assert subprocess.run(command_of(manifest, out), timeout=400).returncode == 0
    search = find_search(launches(read_record(out)))
    assert search is not None
    backend = backend_of(steps=3)
    peaks = {}
    for batch in range(1, 17):
        backend.recover()
        torch.cuda.reset_peak_memory_stats()
        backend.with_batch(batch, 3).generate()
        torch.cuda.synchronize()
        peaks[batch] = torch.cuda.max_memory_reserved()
        if peaks[batch] > limit_bytes:
            break
    observe(search=search.model_dump(mode="json"), peaks=peaks)
    assert search.largest_batch == max(batch for batch, peak in peaks.items() if peak <= limit_bytes)


def test_loop_takes_as_long_as_a_bare_one(backend_of: Callable[..., Any], observe: Callable[..., None]) -> None:
    backend, clock = backend_of(steps=10), MonotonicClock()

    def bare() -> float:
        backend.synchronize()
        start_s = time.perf_counter()
        backend.pipeline(**backend.arguments)
        backend.synchronize()
        return time.perf_counter() - start_s

    for _ in range(3):
        bare()
    ratios = []
    for index in range(PAIRS):
        if index % 2:
            ours_s, bare_s = time_call(backend, clock)[1], bare()
        else:
            bare_s, ours_s = bare(), time_call(backend, clock)[1]
        ratios.append(ours_s / bare_s)
    observe(ratios=ratios, median=median(ratios))
    assert median(ratios) == pytest.approx(1, abs=0.005)


def test_large_batches_make_the_images_of_small_ones(
    backend_of: Callable[..., Any], observe: Callable[..., None]
) -> None:
    # The decoder's widest tensor passes 2^31 elements at batch 32: 256 channels of 512x512.
    numpy = pytest.importorskip("numpy")
    backend = backend_of(steps=2, batch=1)
    numbers: dict[int, tuple[float, float]] = {}
    for batch in (2, 31, 33):
        backend.recover()
        try:
            made = backend.with_batch(batch, 2).generate()
        except torch.OutOfMemoryError:
            break
        one = backend.with_batch(1, 2).generate()[0]
        # Image 0 starts from the same noise in every batch; the last one shows whether it is an image at all.
        apart = numpy.abs(numpy.asarray(made[0], dtype=float) - numpy.asarray(one, dtype=float)).mean()
        numbers[batch] = float(apart), float(numpy.asarray(made[-1], dtype=float).std())
    observe(difference_and_deviation=numbers)
    for difference, deviation in numbers.values():
        # Of 255: kernels of other shapes round differently in fp16; noise has a deviation of tens.
        assert difference < 8
        assert deviation > 5
