"""Backend ``onnxruntime``: the stock diffusers pipeline around networks exported to ONNX, on CPU or CUDA."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from sdbench.backends.base import Clock, DeviceMemory, Profile
from sdbench.backends.diffusers_call import DiffusersCall, check_device, check_tf32_override
from sdbench.backends.observed_call import ObservedCall, check
from sdbench.backends.onnx_cache import GRAPH_NAME, PreparedExports, prepare_exports
from sdbench.backends.onnx_export import export_in_child
from sdbench.backends.onnx_networks import make_network
from sdbench.backends.onnx_parts import part_of
from sdbench.backends.onnx_profile import profile_sessions
from sdbench.backends.onnx_session import (
    OPSETS,
    GraphRunner,
    check_cuda_options,
    check_provider,
    heavy_providers,
    make_options,
    open_session,
    open_stream,
    provider_of,
)
from sdbench.backends.profiled_call import profile_pipeline
from sdbench.models import libraries
from sdbench.models.pipeline import BuiltPipeline, build_pipeline_around, decodes_in_fp32, dtype_of
from sdbench.models.pipeline_folders import find_pipeline
from sdbench.models.pretrained import fetch_weights
from sdbench.models.work import keep_counts
from sdbench.schema.base import Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check, RecordWarning, warn
from sdbench.schema.pipeline import DECODER
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.wire import Stage
from sdbench.schema.workload_results import Export, ExportedPart

_OUTPUT_TYPES = {"fp32": "tensor(float)", "fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}
# What fetch() has checked in this process, for open_backend(): hashing gigabytes again would count as load time.
_fetched: dict[tuple[str, int, Path], PreparedExports] = {}


def import_libraries() -> None:
    """Import onnxruntime, torch, diffusers and transformers."""
    libraries.import_libraries()
    import_module("onnxruntime")


def fetch(experiment: Experiment, device: str, cache_folder: Path, emit_stage: Callable[[Stage], None]) -> None:
    """Download and export what is not in ``cache_folder`` yet, check what is; raises as ``BackendModule`` does."""
    if experiment.weights == "pretrained":
        fetch_weights(experiment, cache_folder)
    opset = OPSETS[provider_of(device)]
    export = partial(export_in_child, experiment, cache_folder, opset)
    exports = prepare_exports(experiment, cache_folder, opset, emit_stage, export)
    _fetched[experiment.experiment_id, opset, cache_folder] = exports
    keep_counts(experiment, cache_folder)


def open_backend(experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> "OnnxruntimeBackend":
    """Return the stock pipeline around one session of onnxruntime per network; raises as ``BackendModule`` does."""
    import onnxruntime
    import torch

    check_device(device)
    check_provider(device, onnxruntime)
    torch.set_num_threads(thread_count)
    key = experiment.experiment_id, OPSETS[provider_of(device)], cache_folder
    if key not in _fetched:
        fetch(experiment, device, cache_folder, lambda _stage: None)
    exports = _fetched[key]
    torch_device, dtype = torch.device(device), dtype_of(experiment.precision)
    options = make_options(experiment, thread_count)
    stream = open_stream(torch_device)
    runners = {
        part: GraphRunner(part, open_session(part, export.folder / GRAPH_NAME, options, device, stream), torch_device)
        for part, export in exports.parts.items()
    }
    sessions = LoadedGraphs(exports, runners, options, stream)
    config = find_pipeline(experiment, cache_folder)

    def make(component: str, stock_config: Any) -> Any:
        return make_network(component, stock_config, config, runners[part_of(component)], dtype)

    facts = exports.parts[part_of(config.denoiser_name)].manifest.facts
    pipeline, _ = build_pipeline_around(experiment, make, cache_folder)
    built = BuiltPipeline(pipeline, config, facts.weights_digest, facts.parameter_count, "exported")
    return OnnxruntimeBackend(experiment, built, cache_folder, sessions)


@dataclass(frozen=True)
class LoadedGraphs:
    """The exported networks of a pipeline, each with its session, and the options and the stream that all share."""

    exports: PreparedExports
    runners: Mapping[ExportedPart, GraphRunner]
    options: Any
    stream: Any


class OnnxruntimeBackend(DiffusersCall):
    """The pipeline with networks that onnxruntime runs."""

    def __init__(
        self, experiment: Experiment, built: BuiltPipeline, cache_folder: Path, sessions: LoadedGraphs
    ) -> None:
        runners = sessions.runners
        super().__init__(experiment, runners[part_of(built.config.denoiser_name)].device, built, cache_folder)
        self._stream = sessions.stream
        self._options = sessions.options
        self._exports = sessions.exports
        self._runners = runners
        counts = {runner.session.get_session_options().intra_op_num_threads for runner in runners.values()}
        (self._thread_count,) = counts

    def exports(self) -> tuple[Export, ...]:
        """Return the exported networks."""
        return tuple(export.describe() for export in self._exports.parts.values())

    def warnings(self) -> tuple[RecordWarning, ...]:
        """Return what the user should know of this configuration."""
        warnings = (*super().warnings(), *self._exports.warnings)
        if self.device.type == "cpu" and self.experiment.precision == "fp16":
            message = "onnxruntime computes fp16 networks in fp32 on the CPU, with casts around most nodes"
            warnings = (*warnings, warn(WarningCode.COMPUTES_IN_FP32, message))
        return warnings

    def recover(self) -> None:
        """Free what a failed call left behind, onnxruntime's arenas too.

        Where even the smallest input finds no memory, the arenas stay as they are: smaller batches run in them.
        """
        import torch

        super().recover()
        for runner in self._runners.values():
            with suppress(MemoryError, torch.OutOfMemoryError):
                runner.shrink()

    def profile_operators(self, clock: Clock, trace_bytes_max: int | None = None) -> Profile:
        """Return the nodes of a call, or the kernels of a GPU; raises as ``Backend.profile_operators`` does."""
        if self.device.type == "cuda":
            # onnxruntime times there what the host does; torch's profiler sees the kernels of the whole process.
            return profile_pipeline(self, clock, trace_bytes_max)

        def open_profiled(part: str, prefix: str) -> Any:
            options = make_options(self.experiment, self._thread_count)
            options.enable_profiling, options.profile_file_prefix = True, prefix
            graph = self._exports.parts[self._runners[part].part].folder / GRAPH_NAME
            return open_session(part, graph, options, self.device.type, self._stream)

        profile = profile_sessions(self, self._runners, open_profiled, clock)
        if trace_bytes_max is None:
            return profile
        return replace(profile, warnings=(warn(WarningCode.TRACE_NOT_MADE, WarningCode.TRACE_NOT_MADE.description),))

    def read_peaks(self) -> DeviceMemory:
        """Return no peaks: what torch counts is not what onnxruntime allocates."""
        none = Unknown(reason="onnxruntime allocates for itself and counts no peak; see what the process uses")
        return DeviceMemory(none, none)

    def _around_call(self) -> AbstractContextManager[Any]:
        return self._cuda.stream(self._stream) if self._cuda else nullcontext()

    def _verify(self, call: ObservedCall, images: tuple[Any, ...]) -> tuple[Check, ...]:
        experiment, sessions = self.experiment, {part: runner.session for part, runner in self._runners.items()}
        provider, expected = provider_of(self.device.type), self._options
        options = [session.get_session_options() for session in sessions.values()]
        levels = {item.graph_optimization_level.name for item in options}
        heavy = "execution provider of convolutions and matrix products"
        checks = [
            *(
                check(f"execution provider of the {part}", provider, item.get_providers()[:1])
                for part, item in sessions.items()
            ),
            *(check(f"{heavy} of the {part}", provider, heavy_providers(item)) for part, item in sessions.items()),
            *self._check_types(),
            check("threads", expected.intra_op_num_threads, [item.intra_op_num_threads for item in options]),
            check("graph optimization", expected.graph_optimization_level.name, levels),
            check("execution mode", expected.execution_mode.name, [item.execution_mode.name for item in options]),
            *call.verify(experiment, images, self.work.denoiser_calls),
        ]
        if experiment.inter_op_threads is not None:
            inter_op_threads = [item.inter_op_num_threads for item in options]
            checks.append(check("inter-op threads", experiment.inter_op_threads, inter_op_threads))
        if self.device.type == "cuda":
            checks += [*check_cuda_options(self.device, sessions.values()), *check_tf32_override(tf32=False)]
        return tuple(checks)

    def _check_types(self) -> tuple[Check, ...]:
        """Return the checks of the types of weights and outputs, and of a decoder that the pipeline keeps in fp32."""
        precision, kept = self.experiment.precision, part_of(DECODER) if decodes_in_fp32(self.pipeline) else None
        facts = {part: export.manifest.facts for part, export in self._exports.parts.items()}
        weights = {dtype for part, item in facts.items() if part != kept for dtype in item.weights_dtypes}
        output_types = {
            item.type for part, runner in self._runners.items() if part != kept for item in runner.session.get_outputs()
        }
        checks = (
            check("weights dtype", precision, weights),
            check("output type", _OUTPUT_TYPES[precision], output_types),
        )
        return (
            checks
            if kept is None
            else (*checks, check(f"weights dtype of the {kept}", "fp32", facts[kept].weights_dtypes))
        )

    def _version_and_threads(self) -> tuple[str, int]:
        import onnxruntime

        return str(onnxruntime.__version__), int(self._thread_count)
