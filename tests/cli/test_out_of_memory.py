"""A whole run in which calls fail with what the GPU's libraries say when memory ran out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdbench.schema.outcome import find_search, launches_of
from sdbench.store.bundle import load_record

REPOSITORY = Path(__file__).parents[2]
MANIFEST = """
schema: sdbench/manifest/v1
title: The largest batch
protocol: {warmup_calls: 1, calls_min: 1, calls_max: 1, launches_min: 1, launches_max: 1}
experiments:
  - id: b
    title: B
    options: {pipeline: tiny-sd, workload: largest-batch, height: 64, width: 64, steps: 1, batch_max: 16}
"""


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(
    ("text", "exit_code", "kind", "largest"),
    [
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", 0, "succeeded", 4),
        ("GET was unable to find an engine to execute this computation", 0, "succeeded", 4),
        ("CUDA error: an illegal memory access was encountered", 4, "failed", None),
    ],
)
def test_search_ends_with_what_fitted_only_where_memory_ran_out(
    tmp_path: Path, text: str, exit_code: int, kind: str, largest: int | None
) -> None:
    (tmp_path / "largest.yaml").write_text(MANIFEST)
    paths = os.pathsep.join((str(Path(__file__).parent / "short_of_memory"), str(REPOSITORY)))
    command = [sys.executable, "-m", "sdbench", "run", "largest.yaml", "--device", "cpu", "--out", "out"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths, "FAKE_DEVICE_ERROR": text},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    (result,) = load_record(folder).results
    assert result.outcome.kind == kind
    search = find_search(launches_of(result.outcome))
    assert (search and search.largest_batch) == largest
