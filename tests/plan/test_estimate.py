import sys
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.models.facts import load_facts
from sdbench.models.pipeline_folders import load_shipped, override
from sdbench.plan.estimate import ROUND_START_S, estimate
from sdbench.plan.machine import Machine
from sdbench.plan.skips import reason_to_skip
from sdbench.schema.experiment import DeviceKind, Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.record import PlannedExperiment

GIB = 2**30
PROTOCOL = Protocol(warmup_calls=1, calls_min=2, calls_max=10, launch_budget_s=1000)


def machine(kind: DeviceKind, cpu_count: int = 4) -> Machine:
    """Return a machine with 8 GiB on its device, whose GPU reports nothing else."""
    return Machine(
        kind=kind,
        cpu_count=cpu_count,
        present_cpu_count=cpu_count,
        memory_total_bytes=8 * GIB,
        compute_capability=None,
        multiprocessor_count=None,
        clock_max_sm_mhz=None,
        rates_flop_per_s={},
    )


def planned(protocol: Protocol = PROTOCOL, **options: Any) -> PlannedExperiment:
    experiment = Experiment(**{"pipeline": "sd-1.4", **options})
    return PlannedExperiment(
        experiment_id=experiment.experiment_id,
        label=experiment.label,
        groups=("a",),
        experiment=experiment,
        protocol=protocol,
    )


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"steps": 1}, {"steps": 50}),
        ({"batch": 1}, {"batch": 4}),
        ({"height": 256}, {"height": 512}),
        ({"guidance_scale": 1.0}, {"guidance_scale": 7.5}),
        ({"pipeline": "tiny-sd"}, {"pipeline": "sd-1.4"}),
        ({"scheduler": "ddim"}, {"scheduler": "pndm"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_more_work_is_estimated_to_take_longer(less: dict[str, Any], more: dict[str, Any], device: DeviceKind) -> None:
    small, large = estimate(planned(**less), machine(device)), estimate(planned(**more), machine(device))
    assert small.call_s < large.call_s
    assert small.memory_bytes <= large.memory_bytes


def test_more_threads_are_estimated_to_be_faster_on_the_cpu() -> None:
    assert estimate(planned(), machine("cpu", 8)).call_s < estimate(planned(), machine("cpu", 2)).call_s
    assert estimate(planned(threads=2), machine("cpu", 8)).call_s == estimate(planned(), machine("cpu", 2)).call_s


LARGE: dict[str, Any] = {
    "pipeline": "sdxl",
    "precision": "bf16",
    "scheduler": "euler",
    "height": 2048,
    "width": 2048,
    "batch": 4,
}


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"vae_slicing": True}, {}),
        # The decoder of SDXL cuts tiles of 1024.
        ({"vae_tiling": True}, {}),
        ({"precision": "bf16"}, {"precision": "fp16"}),
        ({"vae_slicing": True}, {"vae_slicing": True, "batch": 8}),
        ({}, {"attention": "sliced"}),
        ({"attention": "sliced"}, {"attention": "eager"}),
        ({"attention": "eager", "guidance_scale": 1.0}, {"attention": "eager"}),
    ],
    ids=str,
)
def test_option_changes_the_memory_beyond_the_weights(less: dict[str, Any], more: dict[str, Any]) -> None:
    small, large = (estimate(planned(**LARGE | options), machine("cuda")) for options in (less, more))
    assert small.memory_bytes - small.weights_bytes < large.memory_bytes - large.weights_bytes


def test_half_precision_is_estimated_to_take_about_half_the_memory() -> None:
    full, half = (estimate(planned(precision=name), machine("cuda", 2)).memory_bytes for name in ("fp32", "fp16"))
    assert half == pytest.approx(full / 2, rel=0.01)


def test_launch_counts_every_call_that_its_budget_allows() -> None:
    free = estimate(planned(), machine("cuda", 8))
    bounded = estimate(planned(PROTOCOL.model_copy(update={"launch_budget_s": free.call_s * 3.5})), machine("cuda", 8))
    least = estimate(planned(PROTOCOL.model_copy(update={"launch_budget_s": 0.001})), machine("cuda", 8))
    assert free.launch_s - bounded.launch_s == pytest.approx(7 * free.call_s)
    assert bounded.launch_s - least.launch_s == pytest.approx(free.call_s)


@pytest.mark.parametrize(
    ("options", "device", "needed_bytes", "reason", "hint"),
    [
        ({"device": "cuda"}, "cpu", GIB, "the experiment is for cuda, but this run is on cpu", "--device cuda"),
        ({"device": "cpu"}, "cuda", GIB, "the experiment is for cpu, but this run is on cuda", "--device cpu"),
        ({"tf32": True}, "cpu", GIB, "TF32 exists only on NVIDIA GPUs", "tf32: false"),
        ({"attention": "sdpa-cudnn"}, "cpu", GIB, "attention: sdpa-cudnn needs an NVIDIA GPU", "--device cuda"),
        ({"attention": "sdpa-efficient"}, "cpu", GIB, "attention: sdpa-efficient needs an NVIDIA GPU", "--device cuda"),
        ({"attention": "xformers"}, "cpu", GIB, "attention: xformers needs an NVIDIA GPU", "--device cuda"),
        (
            {"pipeline": "tiny-z-image", "backend": "onnxruntime"},
            "cpu",
            GIB,
            "the transformer of tiny-z-image takes lists of tensors, which no graph of ONNX does",
            "use backend: pytorch",
        ),
        ({"threads": 5}, "cpu", GIB, "5 threads requested, but this process may use 4 CPUs", "at most 4"),
        ({}, "cpu", 13 * GIB, "needs about 13.0 GiB of host memory, this machine has 8.00 GiB", "smaller batch"),
    ],
    ids=str,
)
def test_what_cannot_run_here_is_skipped_with_reason_and_remedy(
    options: dict[str, Any], device: DeviceKind, needed_bytes: int, reason: str, hint: str
) -> None:
    experiment = Experiment(**{"pipeline": "tiny-sd", **options})
    skipped = reason_to_skip(experiment, machine(device), needed_bytes)
    assert skipped is not None
    assert skipped.reason == reason
    assert hint in skipped.hint


@pytest.mark.parametrize(
    ("options", "device", "needed_bytes"),
    [
        ({}, "cpu", 8 * GIB),
        ({"device": "cpu", "threads": 4}, "cpu", GIB),
        ({"device": "cuda", "tf32": True}, "cuda", GIB),
        ({"attention": "sdpa-flash"}, "cpu", GIB),
        ({"attention": "sdpa-cudnn"}, "cuda", GIB),
        ({}, "cuda", 900 * GIB),
    ],
    ids=str,
)
def test_what_can_run_or_is_worth_trying_is_not_skipped(
    options: dict[str, Any], device: DeviceKind, needed_bytes: int
) -> None:
    experiment = Experiment(pipeline="tiny-sd", **options)
    assert reason_to_skip(experiment, machine(device), needed_bytes) is None


@pytest.mark.parametrize(
    ("options", "absent", "reason"),
    [
        (
            {"attention": "xformers"},
            ("xformers",),
            "attention: xformers needs the package xformers, not installed here",
        ),
        (
            {"backend": "onnxruntime"},
            ("onnx", "onnxscript"),
            "backend: onnxruntime needs the packages onnx, onnxscript, not installed here",
        ),
        (
            {"backend": "onnxruntime"},
            ("onnxruntime",),
            "backend: onnxruntime needs the package onnxruntime, not installed here",
        ),
    ],
    ids=str,
)
def test_option_whose_package_is_not_installed_is_skipped(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], absent: tuple[str, ...], reason: str
) -> None:
    monkeypatch.setattr("sdbench.plan.skips.find_spec", lambda name: None if name in absent else object())
    experiment = Experiment(pipeline="tiny-sd", **options)
    skipped = reason_to_skip(experiment, machine("cuda"), GIB)
    assert skipped is not None
    assert skipped.reason == reason
    assert ", ".join(absent) in skipped.hint
    monkeypatch.setattr("sdbench.plan.skips.find_spec", lambda _name: object())
    assert reason_to_skip(experiment, machine("cuda"), GIB) is None


@pytest.mark.parametrize(("device", "has"), [("cpu", "this machine has 8.00 GiB"), ("cuda", "this GPU has 8.00 GiB")])
def test_weights_that_do_not_fit_are_not_loaded(device: DeviceKind, has: str) -> None:
    experiment = Experiment(pipeline="tiny-sd")
    skipped = reason_to_skip(experiment, machine(device), 10 * GIB, weights_bytes=9 * GIB)
    assert skipped is not None
    assert skipped.reason == f"the weights alone take 9.00 GiB, {has}"
    assert "cut its depth with config" in skipped.hint
    assert reason_to_skip(experiment, machine(device), 10 * GIB, weights_bytes=8 * GIB) is None


def test_unknown_memory_is_no_reason_to_skip() -> None:
    unread = machine("cpu").model_copy(update={"memory_total_bytes": None})
    assert reason_to_skip(Experiment(pipeline="tiny-sd"), unread, 900 * GIB, 900 * GIB) is None


def test_study_of_precision_costs_the_reference_and_every_length() -> None:
    workload_result = estimate(planned(workload="precision"), machine("cpu", 2))
    calls = 2 * (1 + sum(range(10, 101, 5)) / 50) + 1
    assert workload_result.launch_s > calls * workload_result.call_s
    assert workload_result.launch_s < 1.1 * calls * workload_result.call_s


def test_search_costs_more_the_further_it_may_go() -> None:
    near, far = (planned(workload="largest-batch", batch_max=batch_max) for batch_max in (8, 256))
    assert estimate(far, machine("cpu", 2)).launch_s > estimate(near, machine("cpu", 2)).launch_s


def test_launch_that_is_started_whole_pays_the_imports_itself() -> None:
    forked, spawned = (
        estimate(planned(Protocol(isolation=name)), machine("cpu", 2)).launch_s for name in ("fork", "spawn")
    )
    assert spawned - forked == pytest.approx(ROUND_START_S)


def test_time_of_warm_up_and_of_sustained_load_is_in_every_launch() -> None:
    usual = estimate(planned(), machine("cpu", 8))
    warm_s, load_s = 100 * usual.call_s, 10 * usual.call_s
    warm = estimate(planned(PROTOCOL.model_copy(update={"warmup_s": warm_s})), machine("cpu", 8))
    loaded = estimate(planned(PROTOCOL.model_copy(update={"sustained_s": load_s})), machine("cpu", 8))
    assert warm.launch_s - usual.launch_s == pytest.approx(warm_s - PROTOCOL.warmup_calls * usual.call_s)
    assert loaded.launch_s - usual.launch_s == pytest.approx(load_s + PROTOCOL.calls_min * usual.call_s)


@pytest.mark.parametrize(
    ("last_line", "error", "message"),
    [
        ("ModuleNotFoundError: No module named 'torch'", EnvironmentProblem, "install torch and diffusers"),
        ("sdbench.errors.UserError: the class has no key 'x'", UserError, "mine: the class has no key 'x'"),
        (
            "RuntimeError: shapes differ",
            UserError,
            r"mine: cannot build a working network from its configs \(RuntimeError: shapes differ\)",
        ),
    ],
)
def test_pipeline_that_cannot_be_counted_is_refused_by_cause(
    last_line: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import sys; sys.exit({last_line!r})"
    monkeypatch.setattr("sdbench.models.facts.COMMAND", (sys.executable, "-c", code))
    config = override(load_shipped("tiny-flux"), {"transformer.num_layers": 1}).model_copy(update={"name": "mine"})
    with pytest.raises(error, match=message):
        load_facts(config, tmp_path)


def test_pipeline_that_takes_too_long_to_count_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.models.facts.COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr("sdbench.models.facts.COUNTING_S_MAX", 0.1)
    config = override(load_shipped("tiny-flux"), {"transformer.num_layers": 1})
    with pytest.raises(UserError, match=r"tiny-flux: its parameters and FLOP were not counted within 0\.1 s; choose"):
        load_facts(config, tmp_path)
