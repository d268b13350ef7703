import os

import pytest

from sdbench.plan import machine
from sdbench.plan.make_plan import PlanRequest, make_plan


@pytest.mark.parametrize(("threads", "runs"), [(2, True), (3, False)])
def test_more_threads_than_a_cpu_limit_has_time_for_are_measured_but_not_more_than_there_are_cpus(
    monkeypatch: pytest.MonkeyPatch, threads: int, runs: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(machine, "count_usable_cpus", lambda: 1)
    plan = make_plan(PlanRequest("smoke", device="cpu", settings=(f"threads={threads}",)))
    assert any("threads requested" in skip.reason for skip in plan.skipped.values()) is not runs
