"""The 2022 study's grid (fp32, batch 1, 2, 4, latency and memory) on `tiny-sd`: our wall time next to others'.

A loop that loads the model again at each point is what the study's own script did. optimum-benchmark is measured where
``SDBENCH_PEER_PYTHON`` names an interpreter that has it: it needs other versions of transformers than sdbench.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bars import Bar

BATCHES = (1, 2, 4)
WARMUP_CALLS = 2
TIMED_CALLS = 20
STEPS = 4
SIDE_PX = 64
PEER_VARIABLE = "SDBENCH_PEER_PYTHON"
PEER_LIMIT = 0.17
LOOP_LIMIT = 1.0
MANIFEST = f"""\
schema: sdbench/manifest/v1
title: The study's grid
model: {{pipeline: tiny-sd}}
protocol:
  warmup_calls: {WARMUP_CALLS}
  calls_min: {TIMED_CALLS}
  calls_max: {TIMED_CALLS}
  launches_min: 1
  launches_max: 1
defaults: {{height: {SIDE_PX}, width: {SIDE_PX}, steps: {STEPS}}}
experiments:
  - id: grid
    title: Grid
    matrix: {{batch: [{", ".join(map(str, BATCHES))}]}}
"""


def measure_study_grid() -> list[Bar]:
    """Return our wall time for the grid as a ratio to a reloading loop's, and to optimum-benchmark's where it is."""
    with tempfile.TemporaryDirectory() as folder:
        ours_s = _time_ours(Path(folder))
        loop_s = _time_command([sys.executable, "-m", "tests.benchmarks.study_grid", "loop"])
        name = "the study's grid: our wall time / a loop that reloads"
        bars = [_ratio(name, ours_s, loop_s, LOOP_LIMIT)]
        name = "the study's grid: our wall time / optimum-benchmark's"
        peer = os.environ.get(PEER_VARIABLE)
        if peer is None:
            return [*bars, Bar(name, f"not measured: {PEER_VARIABLE} names no interpreter that has it")]
        save_pipeline(Path(folder) / "pipeline")
        script = Path(__file__).with_name("peer_grid.py")
        asked = {"batches": BATCHES, "warmup": WARMUP_CALLS, "calls": TIMED_CALLS, "steps": STEPS, "side_px": SIDE_PX}
        peer_s = _time_command([peer, str(script), str(Path(folder) / "pipeline"), json.dumps(asked)])
        return [*bars, _ratio(name, ours_s, peer_s, PEER_LIMIT)]


def _ratio(name: str, ours_s: float, others_s: float, limit: float) -> Bar:
    ratio = ours_s / others_s
    return Bar(name, f"{ratio:.2f} ({ours_s:.1f} s of {others_s:.1f} s)", f"at most {limit:g}", ratio <= limit)


def _time_ours(folder: Path) -> float:
    manifest = folder / "grid.yaml"
    manifest.write_text(MANIFEST)
    command = [sys.executable, "-m", "sdbench", "run", str(manifest), "--device", "cpu", "--out", str(folder / "out")]
    return _time_command([*command, "--quiet"])


def _time_command(command: list[str]) -> float:
    started_s = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-1000:]}")
    return time.monotonic() - started_s


def reload_at_each_point() -> None:
    """Do what a plain script does: load, warm up, time and read memory at each point, in one process."""
    from sdbench.backends.pytorch import open_backend
    from sdbench.probes.memory import HostMemoryProbe
    from sdbench.schema.experiment import Experiment
    from sdbench.store.cache_folder import cache_folder

    for batch in BATCHES:
        experiment = Experiment(pipeline="tiny-sd", height=SIDE_PX, width=SIDE_PX, steps=STEPS, batch=batch)
        backend = open_backend(experiment, "cpu", cache_folder(), len(os.sched_getaffinity(0)))
        memory = HostMemoryProbe()
        memory.reset()
        for _ in range(WARMUP_CALLS + TIMED_CALLS):
            backend.generate()
        memory.read()
        del backend
        gc.collect()


def save_pipeline(folder: Path) -> None:
    """Save `tiny-sd` as a folder that older transformers load too: they want the vocabulary as two files."""
    from sdbench.models.pipeline import build_pipeline
    from sdbench.schema.experiment import Experiment

    built = build_pipeline(Experiment(pipeline="tiny-sd"), "cpu", folder)
    built.pipeline.save_pretrained(folder)
    tokenizer = folder / "tokenizer"
    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    (tokenizer / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    (tokenizer / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    end = "<|endoftext|>"
    words = {"bos_token": "<|startoftext|>", "eos_token": end, "pad_token": end, "unk_token": end}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **words}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    (tokenizer / "tokenizer.json").unlink()


if __name__ == "__main__" and sys.argv[1:] == ["loop"]:
    reload_at_each_point()
