from pathlib import Path

import pytest

from sdbench.probes.gpu import count_foreign_processes, read_process_memory
from sdbench.probes.nvml import Nvml
from sdbench.probes.wsl import NO_PROCESSES, is_wsl
from sdbench.schema.base import Unknown


def plant(root: Path, name: str, text: str = "") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("dev/dxg", "", True),
        ("proc/version", "Linux version 6.6.87.2-microsoft-standard-WSL2 (gcc 11.2.0)", True),
        ("proc/version", "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)", True),
        ("proc/version", "Linux version 6.8.0-45-generic (buildd@lcy02)", False),
        ("dev/nvidia0", "", False),
    ],
)
def test_wsl_is_known_by_its_kernel_or_its_gpu_device(tmp_path: Path, name: str, text: str, expected: bool) -> None:
    assert is_wsl(plant(tmp_path, name, text)) is expected


def test_empty_list_of_processes_under_wsl_is_unknown_and_not_none(tmp_path: Path) -> None:
    root = plant(tmp_path, "dev/dxg")
    nvml = Nvml(lambda *_: [])
    assert count_foreign_processes(nvml, 0, frozenset(), root) == Unknown(reason=NO_PROCESSES)
    assert read_process_memory(nvml, 0, 1, root) == Unknown(reason=NO_PROCESSES)
