"""sdbench: honest, reproducible benchmarks of Stable Diffusion inference.

The functions here are the whole of the Python API; see docs/reference/api.md. They are imported when they are first
used, so that importing sdbench stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdbench.compare.comparison import compare_runs
    from sdbench.plan.make_plan import PlanRequest, make_plan
    from sdbench.report.write import write_report
    from sdbench.runner.run import run_plan
    from sdbench.store.run import Run, load_run

__version__ = "0.1.0"
__all__ = ["PlanRequest", "Run", "compare_runs", "load_run", "make_plan", "run_plan", "write_report"]

_MODULES = {
    "PlanRequest": "sdbench.plan.make_plan",
    "Run": "sdbench.store.run",
    "compare_runs": "sdbench.compare.comparison",
    "load_run": "sdbench.store.run",
    "make_plan": "sdbench.plan.make_plan",
    "run_plan": "sdbench.runner.run",
    "write_report": "sdbench.report.write",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module 'sdbench' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
