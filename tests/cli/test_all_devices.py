"""``--device cuda:all``: alone, then at once, each with its own record."""

import argparse
from pathlib import Path

import pytest

from sdbench.cli.all_devices import run_all_devices
from sdbench.cli.parser import build_parser
from sdbench.compare.comparison import compare_records
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes.devices import list_cuda_devices
from sdbench.store.bundle import load_record

MANIFEST = """schema: sdbench/manifest/v1
title: Virtual devices
protocol: {launches_min: 2, launches_max: 2, calls_min: 3, calls_max: 3}
experiments:
  - {id: one, title: One, options: {architecture: tiny, height: 64, width: 64, steps: 4, backend: virtual}}
"""


def options_of(arguments: list[str]) -> argparse.Namespace:
    return build_parser().parse_args(arguments)


def test_each_device_runs_alone_and_then_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "virtual.yaml").write_text(MANIFEST)
    arguments = [
        "run",
        str(tmp_path / "virtual.yaml"),
        "--out",
        str(tmp_path / "out"),
        "--quiet",
        "--device",
        "cuda:all",
    ]
    # The CPU stands for two GPUs: what is shown is that four runs are made and what their records say.
    code = run_all_devices(options_of(arguments), arguments, lambda: ("cpu", "cpu"))
    assert code == 0
    records = [load_record(path.parent) for path in (tmp_path / "out").glob("*/record.json")]
    assert len(records) == 4
    groups = [record.device_group for record in records if record.device_group]
    assert len({group.group_id for group in groups}) == 1
    assert sorted(group.at_once for group in groups) == [False, False, True, True]
    assert {group.devices for group in groups} == {("cpu", "cpu")}
    alone = next(record for record in records if record.device_group and not record.device_group.at_once)
    beside = next(record for record in records if record.device_group and record.device_group.at_once)
    assert any("beside" in text for text in compare_records([alone], [beside], 0.02).treatments)


def test_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(EnvironmentProblem, match="cuda:0"):
        list_cuda_devices()


def test_rounds_need_one_device(tmp_path: Path) -> None:
    arguments = ["run", str(tmp_path / "virtual.yaml"), "--device", "cuda:all", "--rounds", "1"]
    with pytest.raises(UserError, match="--rounds needs a single device"):
        run_all_devices(options_of(arguments), arguments, lambda: ("cpu",))
