"""No heavy import outside the worker: the command line stays light because these packages import nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "diffusers", "transformers", "onnxruntime", "pynvml", "numpy", "scipy", "docker", "ray")
LIGHT_PACKAGES = (
    "cli", "compare", "containers", "fleet", "lambda2022", "plan", "publish", "query", "report", "runner", "schema",
    "stats", "store", "verification",
)  # fmt: skip
# These do heavy work inside functions; their tables of names are read by everyone.
PACKAGES_WITH_A_TABLE = ("backends", "models", "probes", "workloads")

PROGRAM = """
import importlib, json, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps([name for name in json.loads(sys.argv[1]) if name in sys.modules]))
"""


def modules_of(package: str) -> list[str]:
    """Every module under sdbench/<package>, but those that run when imported."""
    files = (ROOT / "sdbench" / package).rglob("*.py")
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(files)]
    return [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]


def heavy_imports_of(modules: list[str]) -> list[str]:
    """What a fresh interpreter has loaded of HEAVY once it has imported the modules."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(HEAVY), *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return loaded


@pytest.mark.parametrize("package", [name for name in LIGHT_PACKAGES if modules_of(name)])
def test_package_imports_nothing_heavy(package: str) -> None:
    assert heavy_imports_of(modules_of(package)) == []


@pytest.mark.parametrize("package", PACKAGES_WITH_A_TABLE)
def test_table_of_a_package_imports_nothing_heavy(package: str) -> None:
    assert heavy_imports_of([f"sdbench.{package}"]) == []


def test_heavy_import_is_seen() -> None:
    assert heavy_imports_of(["sdbench.errors", "numpy"]) == ["numpy"]
