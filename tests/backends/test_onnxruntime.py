"""The real pipeline on tiny-sd with its networks in onnxruntime, against the same in torch."""

import dataclasses
from contextlib import nullcontext
from math import fsum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdbench.backends import onnx_session, onnxruntime, profiled_call, pytorch
from sdbench.backends.base import WrongExecution
from sdbench.backends.onnx_session import CPU_PROVIDER, check_provider, explain, make_options, open_session
from sdbench.backends.onnxruntime import OnnxruntimeBackend
from sdbench.errors import EnvironmentProblem
from sdbench.probes.out_of_memory import where_memory_ran_out
from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.schema.operators import OUTSIDE
from sdbench.schema.outcome import RecordWarning
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.wire import Stage
from sdbench.worker.clock import MonotonicClock
from tests.backends.pictures import check_same


def tiny(**options: Any) -> Experiment:
    return Experiment(**{"pipeline": "tiny-sd", "height": 64, "width": 64, "steps": 2, **options})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the exports of tiny in fp32: 65 s on one core, and 2 s on every later use."""
    folder = tmp_path_factory.mktemp("cache")
    stages: list[Stage] = []
    onnxruntime.fetch(tiny(backend="onnxruntime"), "cpu", folder, stages.append)
    assert stages == ["export"]
    return folder


def open_tiny(cache: Path, **options: Any) -> OnnxruntimeBackend:
    return onnxruntime.open_backend(tiny(backend="onnxruntime", **options), "cpu", cache, options.get("threads", 1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch": 2},
        {"height": 128, "width": 72},
        {"guidance_scale": 1.0, "negative_prompt": "blurred"},
        {"scheduler": "euler"},
    ],
    ids=str,
)
def test_pictures_agree_with_those_of_torch(cache: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    ours = open_tiny(cache, **options)
    theirs = pytorch.open_backend(tiny(**options), "cpu", tmp_path, 1)
    check_same(ours, theirs)


def test_observed_call_passes_its_checks_and_has_its_phases(cache: Path) -> None:
    backend = open_tiny(cache, batch=2)
    observation = backend.observe(MonotonicClock())
    assert all(check.passed for check in observation.checks)
    assert observation.finite == (True, True)
    assert len(observation.denoise_steps_s) == backend.work.denoiser_calls
    assert min(observation.phases_s.values()) > 0
    assert not any((backend.pipeline.unet._forward_pre_hooks, backend.pipeline.vae.decoder._forward_hooks))


def test_cached_exports_are_not_made_again_and_are_described(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "export_in_child", pytest.fail)
    onnxruntime.fetch(tiny(backend="onnxruntime"), "cpu", cache, pytest.fail)
    exports = open_tiny(cache).exports()
    assert {export.part for export in exports} == {"unet", "vae_decoder", "text_encoder"}
    assert all(export.cached and export.size_bytes > 2**20 and export.export_s > 0 for export in exports)


def test_environment_names_the_backend_its_version_and_threads(cache: Path) -> None:
    import onnxruntime as library

    environment = open_tiny(cache).describe()
    assert (environment.backend, environment.backend_version) == ("onnxruntime", library.__version__)
    assert (environment.threads, environment.device, environment.work.denoiser_calls) == (1, "cpu", 3)


def test_nodes_add_up_to_the_call_and_their_flop_to_those_of_the_shapes(cache: Path) -> None:
    backend = open_tiny(cache)
    before = backend.generate()[0].tobytes()
    profile = backend.profile_operators(MonotonicClock())
    assert isinstance(profile.operators, Known)
    table = profile.operators.value
    assert {row.phase for row in table.rows} == {"text_encoder", "denoise_step", "vae_decode", "rest"}
    assert {"Conv", "MatMul", OUTSIDE} <= {row.operator for row in table.rows}
    # No node is in a phase that it did not run in: each phase is longer than its nodes.
    assert all(row.self_s >= 0 for row in table.rows)
    assert fsum(row.self_s for row in table.rows) == pytest.approx(table.call_s)
    # Channels are added up to a block.
    assert 1.0 <= sum(row.flop or 0 for row in table.rows) / backend.work.flop < 1.1
    assert table.ran["convolution"] == "onnxruntime CPU Conv"
    assert table.ran["gemm precision"] == "fp32"
    assert backend.generate()[0].tobytes() == before
    assert backend.describe().threads == 1


def test_nodes_of_many_steps_are_those_of_the_first_ones(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiled_call, "EVENTS_MAX", 4_000)
    backend = open_tiny(cache, steps=8, scheduler="ddim")
    profile = backend.profile_operators(MonotonicClock(), 2**20)
    assert isinstance(profile.operators, Known)
    table = profile.operators.value
    assert table.profiler.endswith(", 4 of 8 denoiser calls")
    assert 1.0 <= sum(row.flop or 0 for row in table.rows) / backend.work.flop < 1.1
    assert [warning.code for warning in profile.warnings] == [WarningCode.TRACE_NOT_MADE]


def test_session_that_cannot_be_opened_again_leaves_the_launch_as_it_is(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    backend = open_tiny(cache)
    monkeypatch.setattr(onnxruntime, "open_session", fail)
    with pytest.raises(MemoryError):
        backend.profile_operators(MonotonicClock())
    backend.recover()
    assert backend.describe().threads == 1
    assert backend.exports()


def test_options_reach_the_sessions(cache: Path) -> None:
    import onnxruntime as library

    backend = open_tiny(cache, graph_optimization="basic", inter_op_threads=3, threads=2)
    checks = {check.name: check.observed for check in backend.observe(MonotonicClock()).checks}
    assert checks["graph optimization"] == "ORT_ENABLE_BASIC"
    assert (checks["threads"], checks["inter-op threads"], checks["execution mode"]) == ("2", "3", "ORT_PARALLEL")
    options = backend._runners["unet"].session.get_session_options()
    assert options.graph_optimization_level == library.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert (options.intra_op_num_threads, options.inter_op_num_threads, options.enable_mem_pattern) == (2, 3, False)


def test_graph_optimization_other_than_requested_is_a_failure(cache: Path) -> None:
    backend = open_tiny(cache)
    other = tiny(backend="onnxruntime", graph_optimization="disabled")
    backend._options = make_options(other, 1)
    with pytest.raises(WrongExecution, match="graph optimization: expected ORT_DISABLE_ALL, observed ORT_ENABLE_ALL"):
        backend.observe(MonotonicClock())


def test_weights_in_another_type_are_a_failure(cache: Path) -> None:
    backend = open_tiny(cache)
    backend.experiment = Experiment.model_validate(dict(backend.experiment) | {"precision": "fp16"})
    with pytest.raises(WrongExecution, match=r"weights dtype: expected fp16, observed fp32; output type"):
        backend.observe(MonotonicClock())


def test_nodes_on_another_provider_are_a_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_tiny(cache)
    monkeypatch.setattr(onnxruntime, "heavy_providers", lambda _session: {CPU_PROVIDER, "AzureExecutionProvider"})
    with pytest.raises(WrongExecution, match="convolutions and matrix products of the unet"):
        backend.observe(MonotonicClock())


def test_provider_that_fell_back_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as library

    recorded: dict[str, Any] = {}

    class FakeSession:
        def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
            recorded["providers"] = providers

        def disable_fallback(self) -> None:
            recorded["fallback"] = "disabled"

        def get_providers(self) -> list[str]:
            return [CPU_PROVIDER]

    monkeypatch.setattr(library, "InferenceSession", FakeSession)
    options = make_options(tiny(backend="onnxruntime"), 2)
    with pytest.raises(WrongExecution, match="expected CUDAExecutionProvider, observed CPUExecutionProvider"):
        open_session("unet", Path("graph.onnx"), options, "cuda:1", SimpleNamespace(cuda_stream=4096))
    requested = {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "device_id": "1",
        "user_compute_stream": "4096",
    }
    assert recorded == {"providers": [("CUDAExecutionProvider", requested)], "fallback": "disabled"}


def test_build_without_cuda_is_a_problem_of_the_machine() -> None:
    library = SimpleNamespace(__version__="1.0", get_available_providers=lambda: [CPU_PROVIDER])
    check_provider("cpu", library)
    with pytest.raises(EnvironmentProblem, match=r"onnxruntime 1\.0 has no CUDAExecutionProvider.*onnxruntime-gpu"):
        check_provider("cuda:0", library)


def test_libraries_of_cuda_are_loaded_where_onnxruntime_can() -> None:
    loaded: list[str] = []
    library = SimpleNamespace(
        preload_dlls=lambda: loaded.append("CUDA"),
        get_available_providers=lambda: [onnx_session.CUDA_PROVIDER, CPU_PROVIDER],
    )
    check_provider("cuda:0", library)
    assert loaded == ["CUDA"]


def test_another_batch_runs_in_the_same_sessions(cache: Path) -> None:
    backend = open_tiny(cache)
    other = backend.with_batch(3, 1)
    assert len(other.generate()) == 3
    assert other._runners is backend._runners


def test_recovered_backend_gives_the_same_pictures(cache: Path) -> None:
    backend = open_tiny(cache)
    before = backend.generate()[0].tobytes()
    backend.recover()
    assert backend.generate()[0].tobytes() == before


def test_rebuilt_export_and_fp16_on_the_cpu_are_warnings(cache: Path) -> None:
    backend = open_tiny(cache)
    rebuilt = RecordWarning(code=WarningCode.EXPORT_REBUILT, message="the unet was exported again", hint="none")
    backend._exports = dataclasses.replace(backend._exports, warnings=(rebuilt,))
    assert [warning.code for warning in backend.warnings()] == ["synthetic-weights", "export-rebuilt"]
    backend.experiment = Experiment.model_validate(dict(backend.experiment) | {"precision": "fp16"})
    assert [warning.code for warning in backend.warnings()][2:] == ["computes-in-fp32"]


@pytest.mark.parametrize("text", ["std::bad_alloc", "Failed to allocate memory for requested buffer of size 9"])
def test_arenas_that_cannot_shrink_for_want_of_memory_stay(
    cache: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(text)

    backend = open_tiny(cache)
    for runner in backend._runners.values():
        monkeypatch.setattr(runner.session, "run", fail)
    backend.recover()
    assert len(backend.generate()) == 1


@pytest.mark.parametrize(
    ("text", "device", "expected"),
    [
        # onnxruntime#16307 and bfc_arena.cc: the same words for the memory of the host and of the GPU.
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9", "cpu", "host"),
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9", "cuda:0", "device"),
        ("Available memory of 1 is smaller than requested bytes of 2", "cuda:0", "device"),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);", "cuda:0", "device"),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&handle);", "cuda:0", "device"),
        ("CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ; GPU=0", "cuda:0", "host"),
        ("std::bad_alloc", "cuda:0", "host"),
        ("CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0", "cuda:0", "after"),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", "cuda:0", "none"),
    ],
)
def test_memory_that_ran_out_in_onnxruntime_is_the_right_one(text: str, device: str, expected: str) -> None:
    error = explain(Exception(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {text}"), "unet", device)
    assert text in str(error)
    assert where_memory_ran_out(error) == (expected if expected in ("device", "host") else None)
    assert where_memory_ran_out(error, ran_before=True) == {"after": "device", "none": None}.get(expected, expected)


def test_memory_of_onnxruntime_is_not_read_from_torch(cache: Path) -> None:
    peaks = open_tiny(cache).read_peaks()
    assert "onnxruntime allocates for itself" in str(peaks.allocated_peak_bytes)


REPORTED = {
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "device_id": "1",
    "use_tf32": "0",
    "has_user_compute_stream": "1",
    "user_compute_stream": "94385",
    "gpu_mem_limit": "18446744073709551615",
    "prefer_nhwc": "0",
}


def check_reported(**changes: str) -> dict[str, tuple[str, bool]]:
    import torch

    sessions = [
        SimpleNamespace(get_provider_options=lambda given=given: {onnx_session.CUDA_PROVIDER: REPORTED | given})
        for given in ({}, changes)
    ]
    checks = onnx_session.check_cuda_options(torch.device("cuda:1"), sessions)
    return {check.name.removeprefix("CUDA provider: "): (check.observed, check.passed) for check in checks}


def test_options_of_the_cuda_provider_are_read_back_and_recorded() -> None:
    checks = check_reported()
    assert all(passed for _, passed in checks.values())
    assert checks["other options"][0] == "gpu_mem_limit=18446744073709551615; prefer_nhwc=0"
    assert checks["cudnn_conv_algo_search"][0] == "HEURISTIC"
    assert "94385" not in str(checks)


@pytest.mark.parametrize(
    ("name", "value"),
    [("use_tf32", "1"), ("cudnn_conv_algo_search", "EXHAUSTIVE"), ("has_user_compute_stream", "0"), ("device_id", "0")],
)
def test_option_that_one_session_ignored_is_a_failed_check(name: str, value: str) -> None:
    checks = check_reported(**{name: value})
    assert [name for name, (_, passed) in checks.items() if not passed] == [name]


def test_torch_and_onnxruntime_share_a_stream_on_a_gpu(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(device=device, cuda_stream=4096))
    assert onnx_session.open_stream(torch.device("cpu")) is None
    stream = onnx_session.open_stream(torch.device("cuda:1"))
    backend = open_tiny(cache)
    backend._stream = stream
    monkeypatch.setattr(backend, "_cuda", SimpleNamespace(stream=nullcontext))
    with backend._around_call() as entered:
        assert entered is stream
