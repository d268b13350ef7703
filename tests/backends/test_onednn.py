"""The instruction set that oneDNN says it uses, really read."""

import os
import subprocess
import sys

import pytest

from sdbench.backends import onednn
from sdbench.schema.base import Known, Unknown

_PROGRAM = """
from sdbench.backends.onednn import read_effective_isa
first = read_effective_isa()
print(first)
assert read_effective_isa() is first
"""


def read_in_child(**variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")}
    command = [sys.executable, "-c", _PROGRAM]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=True).stdout


def test_instructions_are_those_below_the_variable_and_nothing_else_is_printed() -> None:
    import torch

    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("oneDNN's names of these are known")
    (line,) = read_in_child(ONEDNN_MAX_CPU_ISA="AVX2").splitlines()
    assert "value='Intel AVX2'" in line


def test_torch_without_onednn_has_no_such_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert isinstance(onednn.read_effective_isa.__wrapped__(), Unknown)


def test_reading_is_made_once_a_process() -> None:
    assert onednn.read_effective_isa() is onednn.read_effective_isa()
    assert isinstance(onednn.read_effective_isa(), Known | Unknown)
