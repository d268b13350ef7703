"""``sdbench ceilings``, with a worker that measures nothing."""

import json
from typing import Any

import pytest

from sdbench.cli import ceilings as module
from sdbench.cli.main import main
from sdbench.exit_codes import ENVIRONMENT
from sdbench.probes.devices import choose_device
from sdbench.runner.ceilings import MeasuredCeilings
from sdbench.schema.base import Known, Unknown
from tests.fingerprints import make_ceilings


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Measure nothing, and return the precisions that were to be measured."""
    asked: list[Any] = []

    def measure(_device: Any, precisions: Any, _on_waiting: Any) -> MeasuredCeilings:
        asked.append(precisions)
        return MeasuredCeilings(Known(value=make_ceilings()), "memory: it was short")

    monkeypatch.setattr(module, "measure_device", measure)
    return asked


def test_table_has_what_the_machine_reaches(capsys: pytest.CaptureFixture[str], measured: list[Any]) -> None:
    assert main(["ceilings", "--device", "cpu"]) == 0

    printed = capsys.readouterr()
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert "matrix product fp32 2048x2048x2048 400 GFLOP/s" in lines
    assert "memory copy or sum of arrays 40.0 GB/s" in lines
    assert "launch a minimal operator 0.4 us" in lines
    assert "data sheet" not in printed.out
    assert "memory: it was short" in printed.err
    # TF32 is of GPUs.
    assert measured == [("fp32", "fp16", "bf16")]


def test_device_with_a_data_sheet_has_a_second_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, measured: list[Any]
) -> None:
    card = choose_device("cpu")
    object.__setattr__(card, "name", "NVIDIA A100 80GB PCIe")
    monkeypatch.setattr(module, "choose_device", lambda _request: card)
    assert main(["ceilings", "--precision", "fp32", "--precision", "fp32"]) == 0

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "matrix product fp32 2048x2048x2048 400 GFLOP/s 19.5 TFLOP/s 2%" in lines
    assert lines[-1] == "data sheet: NVIDIA A100 80GB PCIe, NVIDIA A100 data sheet"
    assert measured == [("fp32",)]


@pytest.mark.usefixtures("measured")
def test_json_is_in_base_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ceilings", "--device", "cpu", "--json"]) == 0

    content = json.loads(capsys.readouterr().out)
    assert content["ceilings"]["memory_bytes_per_s"] == {"status": "known", "value": 4e10}
    assert content["data_sheet"] is None


def test_worker_that_failed_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    failed = MeasuredCeilings(Unknown(reason="it died"), "it died")
    monkeypatch.setattr(module, "measure_device", lambda *_: failed)

    assert main(["ceilings", "--device", "cpu"]) == ENVIRONMENT
    assert "the ceilings were not measured: it died; see sdbench doctor" in capsys.readouterr().err


def test_precision_that_the_cpu_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ceilings", "--device", "cpu", "--precision", "tf32"]) == 2
    assert capsys.readouterr().err == "sdbench: --precision tf32 is for NVIDIA GPUs; on the CPU use fp32\n"
