"""Realistic records for tests: every outcome, on a CPU or a CUDA machine, the same at every call.

>>> record = make_record()                                   # a CPU run with every kind of outcome
>>> record = make_record(results=(make_result(make_failed()),))
>>> record = make_record(device="cuda:0")                    # the same experiments on a GPU
"""

import random
from collections.abc import Mapping
from math import fsum
from typing import Any

from sdbench.compare.quality import check_quality
from sdbench.schema.base import Known, Unknown, sha256_of
from sdbench.schema.conditions import Conditions
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import MANIFEST_SCHEMA, Manifest, Protocol
from sdbench.schema.metrics import SUSTAINED, latency_s
from sdbench.schema.outcome import (
    AnyOutcome,
    Check,
    Energy,
    Failed,
    ImageResult,
    Launch,
    MemoryUse,
    OutOfMemory,
    RecordWarning,
    Series,
    Skipped,
    Succeeded,
    TimedOut,
)
from sdbench.schema.record import PlannedExperiment, Record, Request, Result
from sdbench.schema.reference_operation import ReferenceOperation
from sdbench.schema.versions import RECORD_SCHEMA
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.work import Work
from sdbench.schema.worker_environment import LoadedLibrary, WorkerEnvironment
from sdbench.schema.workload_results import AllocatorEvents
from sdbench.store.bundle import compute_seal, encode_record
from tests.fingerprints import make_ceilings, make_fingerprint

NO_CUDA = "no CUDA device on this machine"
MIB = 2**20

CLAIM: dict[str, Any] = {
    "id": "half-saves-time",
    "text": "half precision takes less time",
    "metric": "latency_s",
    "numerator": {"options": {"precision": "bf16"}},
    "denominator": {"options": {"precision": "fp32"}},
    "expected": {"low": 0.4, "high": 0.6},
    "source": "a table",
}


def make_experiment(**options: Any) -> Experiment:
    """Return an experiment on tiny-sd (64x64, 4 steps), with ``options`` changed."""
    return Experiment(**{"pipeline": "tiny-sd", "height": 64, "width": 64, "steps": 4, **options})


def make_samples(name: str, center: float, count: int) -> tuple[float, ...]:
    """Return ``count`` positive samples within about 1 % of ``center``, the same for the same ``name``."""
    source = random.Random(name)
    return tuple(round(center * (1 + source.gauss(0, 0.004)), 9) for _ in range(count))


def make_series(
    index: int, latency_s: float, *, warmup_count: int = 2, call_count: int = 5, steps: int = 4
) -> tuple[Series, ...]:
    """Return the timed series and the series of one phase call, all in seconds."""
    name = f"launch {index}"
    # A launch has its own pace: this is what the interval over launches is there for.
    pace_s = latency_s * (1 + 0.002 * (index % 3))
    warmups_s = make_samples(name + " warm-up", pace_s * 1.15, warmup_count)
    text_s, decode_s, rest_s = 0.05 * pace_s, 0.2 * pace_s, 0.03 * pace_s
    denoiser_calls = steps + 1
    steps_s = make_samples(name + " steps", (pace_s - text_s - decode_s - rest_s) / denoiser_calls, denoiser_calls)
    # Exact on every Python: the built-in sum of floats is compensated from 3.12 on, and seals depend on the value.
    total_s = fsum((text_s, *steps_s, decode_s, rest_s))
    timed = (*warmups_s, *make_samples(name, pace_s, call_count))
    return (
        Series(name="latency", unit="s", samples=timed, warmup_count=warmup_count),
        Series(name="phase.text_encoder", unit="s", samples=(text_s,)),
        Series(name="phase.denoise_step", unit="s", samples=steps_s),
        Series(name="phase.vae_decode", unit="s", samples=(decode_s,)),
        Series(name="phase.rest", unit="s", samples=(rest_s,)),
        Series(name="phase.total", unit="s", samples=(total_s,)),
    )


def make_memory(device: str = "cpu", peak_bytes: int = 900 * MIB) -> MemoryUse:
    """Return the memory values of a launch: those of torch and the device are unknown on a CPU."""
    on_cuda = device.startswith("cuda")
    none = Unknown(reason=NO_CUDA)
    host_bytes = 1200 * MIB if on_cuda else peak_bytes
    return MemoryUse(
        torch_allocated_peak_bytes=Known(value=peak_bytes * 8 // 10) if on_cuda else none,
        torch_reserved_peak_bytes=Known(value=peak_bytes) if on_cuda else none,
        device_process_bytes=Known(value=peak_bytes + 500 * MIB) if on_cuda else none,
        device_total_used_bytes=Known(value=peak_bytes + 520 * MIB) if on_cuda else none,
        host_rss_peak_bytes=Known(value=host_bytes),
        host_rss_anon_bytes=Known(value=host_bytes * 7 // 10),
        host_rss_file_bytes=Known(value=host_bytes * 3 // 10),
    )


def make_reference_operation(device: str = "cpu", pace: float = 1.0, **changes: Any) -> ReferenceOperation:
    """Return the samples of a reference operation that takes ``pace`` times as long as usual."""
    given: dict[str, Any] = {
        "name": "matrix product 768x768, convolution 3x3",
        "precision": "fp32",
        "device": device,
        "threads": 2,
        "before_s": tuple(round(pace * sample_s, 9) for sample_s in (0.0072, 0.0071, 0.0071)),
        "after_s": tuple(round(pace * sample_s, 9) for sample_s in (0.0071, 0.0073, 0.0072)),
    }
    return ReferenceOperation(**{**given, **changes})


def make_library(**changes: Any) -> LoadedLibrary:
    """Return a library as a worker had loaded it."""
    given: dict[str, Any] = {
        "name": "libtorch_cpu",
        "path": "site-packages/torch/lib/libtorch_cpu.so",
        "version": Unknown(reason="its file name has no version"),
        "sha256": Known(value=sha256_of("libtorch_cpu")),
    }
    return LoadedLibrary(**{**given, **changes})


def make_work(**changes: Any) -> Work:
    """Return the work of a call of tiny-sd (64x64, 4 steps)."""
    given: dict[str, Any] = {
        "pixels": 64 * 64,
        "latent_tokens": 8 * 8,
        "text_tokens": {"text_encoder": 77},
        "denoiser_calls": 5,
        "native_steps": 50,
        "denoiser_calls_at_native_steps": 51,
        "flop_per_image": {"text_encoder": 8_081_920, "unet": 666_910_720, "vae": 694_192_128},
        "weight_bytes": {"text_encoder": 12_805_992, "unet": 22_124_240, "vae": 2_534_876},
        "activation_bytes_per_image": {"text_encoder": 1_905_576, "unet": 70_651_600, "vae": 32_744_960},
        "operators": {"text_encoder": 84, "unet": 1_950, "vae": 110},
    }
    return Work(**{**given, **changes})


def make_environment(device: str = "cpu", **changes: Any) -> WorkerEnvironment:
    """Return what the worker saw of its software and device."""
    on_cuda = device.startswith("cuda")
    given: dict[str, Any] = {
        "backend": "pytorch",
        "backend_version": "2.13.0",
        "device": device,
        "device_name": "NVIDIA H200" if on_cuda else "Example CPU 8480",
        "threads": 2,
        "cuda_version": Known(value="13.0") if on_cuda else Unknown(reason=NO_CUDA),
        "cudnn_version": Known(value="9.13.0") if on_cuda else Unknown(reason=NO_CUDA),
        "weights_digest": sha256_of("weights"),
        "weights_source": "drawn",
        "weights_mapped_bytes": 0,
        "parameter_count": 1_234_567,
        "work": make_work(),
        "drawn_tokens": {},
        "cpu_capability": "AVX512",
        "onednn_isa": Unknown(reason="the networks run on the GPU") if on_cuda else Known(value="Intel AVX-512"),
        "cudnn_benchmark": Known(value=False) if on_cuda else Unknown(reason=NO_CUDA),
        "cudnn_deterministic": Known(value=False) if on_cuda else Unknown(reason=NO_CUDA),
        "deterministic_algorithms": False,
        "loaded_libraries": Known(value=(make_library(),)),
    }
    return WorkerEnvironment(**{**given, **changes})


def make_conditions(device: str = "cpu", **changes: Any) -> Conditions:
    """Return what went on next to a launch on a quiet machine, with fields changed by name."""
    on_cuda = device.startswith("cuda")
    given: dict[str, Any] = {
        "throttle_shares": Known(value=()),
        "clock_spread_ratio": Known(value=0.01),
        "clock_mean_mhz": Known(value=1980.0) if on_cuda else Known(value=2600.0),
        "memory_clock_mean_mhz": Known(value=2619.0) if on_cuda else Unknown(reason="no GPU is used"),
        "performance_state": Known(value=0) if on_cuda else Unknown(reason="no GPU is used"),
        "clock_setting_ratio": Known(value=0.0) if on_cuda else Unknown(reason="no GPU is used"),
        "clock_max_sm_mhz": Known(value=1980) if on_cuda else Unknown(reason="no GPU is used"),
        "power_mean_w": Known(value=590.0) if on_cuda else Unknown(reason="no GPU is used"),
        "power_source": Known(value="instant") if on_cuda else Unknown(reason="no GPU is used"),
        "utilization_mean_ratio": Known(value=0.99) if on_cuda else Unknown(reason="no GPU is used"),
        "pcie_generation": Known(value=5) if on_cuda else Unknown(reason="no GPU is used"),
        "pcie_width": Known(value=16) if on_cuda else Unknown(reason="no GPU is used"),
        "resident_gpu_process_count": Known(value=0) if on_cuda else Unknown(reason="no GPU is used"),
        "resident_gpu_process_bytes": Known(value=0) if on_cuda else Unknown(reason="no GPU is used"),
        "others_cpu_ratio": Known(value=0.005),
        "load1_mean": Known(value=1.9),
        "steal_ratio": Known(value=0.0),
        "cpu_pressure_ratio": Known(value=0.02),
        "memory_pressure_ratio": Known(value=0.0),
        "cpu_quota_throttled_count": Known(value=0),
        "cpu_quota_throttled_s": Known(value=0.0),
        "foreign_gpu_process_count": Known(value=0) if on_cuda else Unknown(reason="the device is the CPU"),
    }
    return Conditions(**{**given, **changes})


def make_launch(
    index: int = 0, latency_s: float = 0.25, device: str = "cpu", *, steps: int = 4, call_count: int = 5, **changes: Any
) -> Launch:
    """Return one finished launch whose steady calls take about ``latency_s`` (s), with fields changed by name."""
    on_cuda = device.startswith("cuda")
    energy_j = (
        Known(value=round(300.0 * latency_s * call_count, 3))
        if on_cuda
        else Unknown(reason="RAPL is not readable here")
    )
    given: dict[str, Any] = {
        "index": index,
        "isolation": "fork",
        "template_id": f"{index:016x}",
        "position": None,
        "batch": 1,
        "started_utc": f"2026-01-15T10:{index:02d}:00Z",
        "wall_s": round(8.0 + latency_s * (call_count + 4), 6),
        "import_s": 4.2,
        "load_s": 1.5,
        "first_call_s": round(latency_s * 1.8, 6),
        "worker_cpu_s": 14.0,
        "supervisor_cpu_s": 0.05,
        "calls_limit_s": None,
        "series": make_series(index, latency_s, steps=steps, call_count=call_count),
        "stop_reason": "converged",
        "memory": make_memory(device),
        "allocator": (
            Known(value=AllocatorEvents(retries=0, caught_out_of_memory=0)) if on_cuda else Unknown(reason=NO_CUDA)
        ),
        "energy": Energy(
            source="nvml" if on_cuda else "none",
            energy_j=energy_j,
            call_count=call_count,
            duration_s=latency_s * call_count,
            counter_step_s=Known(value=0.1) if on_cuda else Unknown(reason="RAPL is not readable here"),
        ),
        "reference_operation": Known(value=make_reference_operation(device)),
        "operators": Unknown(reason="only the first launch profiles a call"),
        "host_bound_ratio": Known(value=0.0) if on_cuda else Unknown(reason="the device is the CPU"),
        "checks": (
            Check(name="dtype of the modules", expected="float32", observed="float32", passed=True),
            Check(name="attention processor", expected="AttnProcessor2_0", observed="AttnProcessor2_0", passed=True),
        ),
        "images": (
            ImageResult(sha256=sha256_of("image"), width=64, height=64, finite=True, constant=False, path=None),
        ),
        "exports": (),
        "workload_result": None,
        "environment": make_environment(device, work=make_work(denoiser_calls=steps + 1)),
        "throttled": Known(value=False),
        "conditions": make_conditions(device),
        "warnings": (),
    }
    return Launch(**{**given, **changes})


def make_succeeded(
    latency_s: float = 0.25, launch_count: int = 3, device: str = "cpu", **launch_changes: Any
) -> Succeeded:
    """Return a success with ``launch_count`` launches of about ``latency_s`` (s)."""
    launches = tuple(make_launch(index, latency_s, device, **launch_changes) for index in range(launch_count))
    return Succeeded(launches=launches, stop_reason="converged")


def make_out_of_memory(**changes: Any) -> OutOfMemory:
    """Return an out-of-memory outcome after one finished launch."""
    given = {
        "stage": "first call",
        "where": "device",
        "message": "tried to allocate 2.0 GiB",
        "partial": (make_launch(),),
    }
    return OutOfMemory(**{**given, **changes})


def make_failed(**changes: Any) -> Failed:
    """Return a failure while the weights were loading."""
    given = {
        "stage": "load",
        "error_type": "RuntimeError",
        "message": "the weights are broken",
        "stderr_tail": "Traceback (most recent call last):\nRuntimeError: the weights are broken",
        "partial": (),
    }
    return Failed(**{**given, **changes})


def make_timed_out(**changes: Any) -> TimedOut:
    """Return a launch that was killed at its time limit (s)."""
    given = {"stage": "measure", "limit_s": 900.0, "stderr_tail": "step 3 of 50", "partial": ()}
    return TimedOut(**{**given, **changes})


def make_skipped(**changes: Any) -> Skipped:
    """Return an experiment that this machine cannot run."""
    given = {
        "reason": "fp16 autocast needs a CUDA device",
        "hint": "run it with --device cuda on a machine with a GPU",
    }
    return Skipped(**{**given, **changes})


def make_planned(*, groups: tuple[str, ...] = ("precision-and-batch",), **options: Any) -> PlannedExperiment:
    """Return a planned experiment on tiny-sd, with ``options`` changed."""
    experiment = make_experiment(**options)
    return PlannedExperiment(
        experiment_id=experiment.experiment_id,
        label=experiment.label,
        groups=groups,
        experiment=experiment,
        protocol=Protocol(),
    )


def make_result(outcome: AnyOutcome | None = None, **options: Any) -> Result:
    """Return an outcome (by default a success) of an experiment on tiny-sd, with ``options`` changed."""
    outcome = outcome or make_succeeded()
    return Result(planned=make_planned(**options), outcome=outcome, quality_checks=check_quality(outcome))


def make_results(device: str = "cpu") -> tuple[Result, ...]:
    """Return results with every kind of outcome, ten times as fast on CUDA."""
    pace = 0.1 if device.startswith("cuda") else 1.0
    seconds_by_point = {
        ("fp32", 1): 0.20, ("fp32", 2): 0.34, ("fp32", 4): 0.61,
        ("bf16", 1): 0.15, ("bf16", 2): 0.24, ("bf16", 4): 0.42,
    }  # fmt: skip
    grid = tuple(
        make_result(make_succeeded(pace * seconds_s, device=device), precision=precision, batch=batch)
        for (precision, batch), seconds_s in seconds_by_point.items()
    )
    full = {"pipeline": "sd-1.4", "height": 512, "width": 512, "steps": 1}
    memory = make_memory(device, 4700 * MIB)
    return (
        *grid,
        make_result(
            make_succeeded(pace * 25.0, 1, device, steps=1, call_count=2, memory=memory), groups=("full-size",), **full
        ),
        make_result(make_out_of_memory(), batch=64),
        make_result(make_failed(), precision="fp16"),
        make_result(make_timed_out(), precision="fp16", batch=2),
        make_result(make_skipped(), autocast="fp16"),
    )


def make_manifest(**changes: Any) -> Manifest:
    """Return a manifest with two groups, with fields changed by their written name."""
    given: Mapping[str, Any] = {
        "schema": MANIFEST_SCHEMA,
        "title": "A first look at this machine",
        "experiments": (
            {
                "id": "precision-and-batch",
                "title": "Precision and batch size on tiny-sd",
                "options": {"pipeline": "tiny-sd", "height": 64, "width": 64, "steps": 4},
                "matrix": {"precision": ("fp32", "bf16"), "batch": (1, 2, 4)},
            },
            {
                "id": "full-size",
                "title": "Stable Diffusion v1.4, few steps",
                "options": {"pipeline": "sd-1.4", "steps": 1},
            },
        ),
    }
    return Manifest.model_validate({**given, **changes})


def make_request(**changes: Any) -> Request:
    """Return what the user asked for: the quick manifest within 255 s."""
    given = {
        "manifest_name": "manifests/quick.yaml",
        "manifest_sha256": sha256_of("manifest"),
        "only": (),
        "device": "auto",
        "weights": None,
        "budget_s": 255.0,
        "settings": (),
    }
    return Request(**{**given, **changes})


def make_record(**changes: Any) -> Record:
    """Return a sealed record of a CPU run with every kind of outcome, with fields changed by name.

    ``device="cuda:0"`` changes the results and the fingerprint with it, unless they are given too.
    """
    device = changes.get("device", "cpu")
    given: dict[str, Any] = {
        "schema": RECORD_SCHEMA,
        "origin": "measured",
        "run_id": f"20260115-100000-{device.replace(':', '')}-0a1b2c",
        "created_utc": "2026-01-15T10:00:00Z",
        "ended_utc": "2026-01-15T10:04:12Z",
        "ended": "complete",
        "wall_s": Known(value=252.0),
        "request": make_request(),
        "session": None,
        "device_group": None,
        "publication": None,
        "manifest": make_manifest(),
        "device": device,
        "fingerprint": make_fingerprint(device),
        "ceilings_at_end": Known(value=make_ceilings(device)),
        "results": make_results(device),
        "files": (),
        "warnings": (
            RecordWarning(
                code=WarningCode.BUSY_BEFORE, message="the load average was 1.9 on 2 CPUs", hint="stop other programs"
            ),
        ),
        "seal": "0" * 64,
    }
    unsealed = Record.model_validate({**given, **changes})
    seal = compute_seal(encode_record(unsealed.to_json_dict()))
    return Record.model_validate({**{name: getattr(unsealed, _attribute(name)) for name in given}, "seal": seal})


def _attribute(name: str) -> str:
    return "schema_" if name == "schema" else name


def slow_phases(launch: Launch, factor: float) -> Launch:
    """Return a launch whose observed call took ``factor`` times as long in every phase."""
    series = tuple(
        item.model_copy(update={"samples": tuple(factor * value for value in item.samples)})
        if item.name.startswith("phase.")
        else item
        for item in launch.series
    )
    return launch.model_copy(update={"series": series})


def sustain(result: Result, factor: float, sustained_s: float = 60.0) -> Result:
    """Return a result whose launches took ``factor`` times as long a call after ``sustained_s`` of load."""
    outcome = result.outcome
    assert isinstance(outcome, Succeeded)
    launches = []
    for launch in outcome.launches:
        steady = factor * (latency_s(launch) or 0.0)
        series = Series(name=SUSTAINED, unit="s", samples=(steady,) * 5, warmup_count=3)
        launches.append(launch.model_copy(update={"series": (*launch.series, series)}))
    protocol = result.planned.protocol.model_copy(update={"sustained_s": sustained_s})
    return result.model_copy(
        update={
            "outcome": outcome.model_copy(update={"launches": tuple(launches)}),
            "planned": result.planned.model_copy(update={"protocol": protocol}),
        }
    )
