"""Runs with fake workers, for tests of the supervisor."""

import os
import sys
from pathlib import Path
from typing import Any

from sdbench.plan.estimate import CostEstimate
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.make_plan import Plan
from sdbench.plan.manifest_file import LoadedManifest, check_manifest
from sdbench.probes.devices import Device
from sdbench.runner.spec import RunSpec
from sdbench.schema.base import Known, Unknown
from sdbench.schema.document import parse_yaml
from sdbench.schema.outcome import Skipped
from sdbench.schema.record import Request

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
FAKE_TEMPLATE = (sys.executable, str(Path(__file__).with_name("fake_template.py")))
REPOSITORY = Path(__file__).parents[2]


def manifest_text(*prompts: str, timeout_s: float = 60, workload: str = "latency") -> str:
    """Return a manifest with one tiny experiment per prompt; the fake worker behaves as its prompt says."""
    listed = ", ".join(f'"{prompt}"' for prompt in prompts)
    isolation = os.environ.get("FAKE_ISOLATION", "fork")
    return f"""\
schema: sdbench/manifest/v1
title: Fake
model: {{pipeline: tiny-sd}}
protocol: {{launches_min: 2, launches_max: 2, launch_timeout_s: {timeout_s}, isolation: {isolation}}}
defaults: {{height: 64, width: 64, steps: 4, workload: {workload}}}
experiments:
  - id: fake
    title: Fake
    matrix: {{prompt: [{listed}]}}
"""


def make_spec(
    out: Path,
    *prompts: str,
    timeout_s: float = 60,
    workload: str = "latency",
    budget_s: float | None = None,
    skipped: dict[str, Skipped] | None = None,
    **changes: Any,
) -> RunSpec:
    text = manifest_text(*prompts, timeout_s=timeout_s, workload=workload)
    parsed = parse_yaml(text, "fake.yaml")
    loaded = LoadedManifest(check_manifest(parsed), parsed, text, "0" * 64)
    planned = expand(loaded, parse_settings(()))
    request = Request(
        manifest_name="fake.yaml",
        manifest_sha256="0" * 64,
        only=(),
        device="cpu",
        weights=None,
        budget_s=None,
        settings=(),
    )
    cost = CostEstimate(call_s=0.0, fixed_s=1.0, launch_s=1.0, memory_bytes=0, fits=True)
    estimates = {item.experiment_id: cost for item in planned}
    unknown = Unknown(reason="the device is the CPU")
    device = Device(
        kind="cpu",
        index=None,
        uuid=None,
        name="test",
        memory_total_bytes=Known(value=2**34),
        compute_capability=unknown,
        multiprocessor_count=unknown,
        clock_max_sm_mhz=unknown,
        lock_key=f"test-{out}",
        torch_name="cpu",
        choice="",
        warnings=(),
    )
    plan = Plan(loaded, request, device, planned, estimates, skipped or {}, budget_s)
    return RunSpec(
        plan, out, cache_folder=out / "cache", worker_command=FAKE_WORKER, template_command=FAKE_TEMPLATE, **changes
    )
