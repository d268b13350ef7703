"""Backend ``onnxruntime``: the stock diffusers pipeline around networks exported to ONNX, on CPU or CUDA."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from sdbench.backends.base import DeviceMemory
from sdbench.backends.call_checks import CallWitness, check, verify_call
from sdbench.backends.diffusers_call import DiffusersCall, check_device
from sdbench.backends.onnx_cache import PreparedExports, prepare_exports
from sdbench.backends.onnx_export import export_in_child
from sdbench.backends.onnx_modules import PART_OF, make_network
from sdbench.backends.onnx_session import (
    CUDA_PROVIDER,
    GraphRunner,
    SessionSettings,
    check_provider,
    heavy_providers,
    make_options,
    open_session,
)
from sdbench.models.libraries import import_library_classes
from sdbench.models.pipeline import build_pipeline_around, dtype_of
from sdbench.models.pretrained import fetch_weights
from sdbench.schema.base import Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check, Notice, Stage
from sdbench.schema.study import Export, ExportedPart

_OUTPUT_TYPES = {"fp32": "tensor(float)", "fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}
# What fetch() has checked in this process, for open_backend(): hashing gigabytes again would count as load time.
_fetched: dict[tuple[str, Path], PreparedExports] = {}


def open_backend(experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> "OnnxruntimeBackend":
    """Return the loaded pipeline of ``experiment`` on ``device`` ("cpu", "cuda:0", ...).

    Raises:
        EnvironmentProblem: torch or onnxruntime cannot use the device, or the cache cannot be written.
        ExportFailed: a network cannot be exported.
        SessionFailed: onnxruntime cannot run an exported network.
        WrongExecution: another execution provider than the one asked for would run.
    """
    import onnxruntime
    import torch

    check_device(device)
    check_provider(device, onnxruntime)
    torch.set_num_threads(thread_count)
    if (experiment.experiment_id, cache_folder) not in _fetched:
        fetch(experiment, cache_folder, lambda _stage: None)
    exports = _fetched[experiment.experiment_id, cache_folder]
    settings = SessionSettings(experiment, device, thread_count)
    runners = {
        part: GraphRunner(part, open_session(part, export.graph_path, settings), torch.device(device))
        for part, export in exports.parts.items()
    }
    pipeline = build_pipeline_around(
        experiment,
        lambda component, config: make_network(
            component, config, runners[PART_OF[component]], torch.device(device), dtype_of(experiment.precision)
        ),
        cache_folder,
    )
    return OnnxruntimeBackend(settings, pipeline, exports, runners)


def import_libraries() -> None:
    """Import onnxruntime, torch, diffusers and transformers, so that their import can be timed apart from loading."""
    import_library_classes()
    import_module("onnxruntime")


def fetch(experiment: Experiment, cache_folder: Path, say_stage: Callable[[Stage], None]) -> None:
    """Download weights and export networks that are not in ``cache_folder`` yet, and check those that are.

    Raises:
        WeightsUnavailable: pretrained weights cannot be had.
        EnvironmentProblem: the cache cannot be written.
        ExportFailed: a network cannot be exported.
        MemoryError: the host's memory does not suffice for the export.
    """
    if experiment.weights == "pretrained":
        fetch_weights(experiment, cache_folder)
    _fetched[experiment.experiment_id, cache_folder] = prepare_exports(
        experiment, cache_folder, say_stage, export_in_child
    )


class OnnxruntimeBackend(DiffusersCall):
    """The pipeline with networks that onnxruntime runs."""

    def __init__(
        self,
        settings: SessionSettings,
        pipeline: Any,
        exports: PreparedExports,
        runners: Mapping[ExportedPart, GraphRunner],
    ) -> None:
        import torch

        facts = exports.parts["unet"].manifest.facts
        super().__init__(
            settings.experiment, torch.device(settings.device), pipeline, facts.weights_digest, facts.parameter_count
        )
        self._settings = settings
        self._exports = exports
        self._runners = runners

    def exports(self) -> tuple[Export, ...]:
        """Return the exported networks."""
        return tuple(export.describe() for export in self._exports.parts.values())

    def notices(self) -> tuple[Notice, ...]:
        """Return what the user should know of this set-up."""
        notices = (*super().notices(), *self._exports.notices)
        if self.device.type == "cpu" and self.experiment.precision == "fp16":
            notices = (
                *notices,
                Notice(
                    code="computes-in-fp32",
                    message="onnxruntime computes fp16 networks in fp32 on the CPU, with casts around most nodes",
                    remedy="do not read its accuracy as that of fp16; use fp32 on the CPU",
                ),
            )
        return notices

    def recover(self) -> None:
        """Free what a failed call left behind, onnxruntime's arenas too."""
        super().recover()
        for runner in self._runners.values():
            runner.shrink()

    def read_peaks(self) -> DeviceMemory:
        """Return no peaks: what torch counts is not what onnxruntime allocates."""
        none = Unknown(reason="onnxruntime allocates for itself and counts no peak; see what the process uses")
        return DeviceMemory(none, none)

    def _open_witness(self) -> CallWitness:
        return CallWitness(self.pipeline, self.experiment.batch)

    def _verify(self, witness: CallWitness, images: tuple[Any, ...]) -> tuple[Check, ...]:
        import onnxruntime

        experiment, sessions = self.experiment, {part: runner.session for part, runner in self._runners.items()}
        asked = make_options(self._settings, onnxruntime)
        options = [session.get_session_options() for session in sessions.values()]
        weights = {dtype for export in self._exports.parts.values() for dtype in export.manifest.facts.weights_dtypes}
        checks = [
            *(
                check(f"execution provider of the {part}", self._settings.provider, {session.get_providers()[0]})
                for part, session in sessions.items()
            ),
            *(
                check(
                    f"execution provider of convolutions and matrix products of the {part}",
                    self._settings.provider,
                    heavy_providers(session),
                )
                for part, session in sessions.items()
            ),
            check("weights dtype", experiment.precision, weights),
            check(
                "output type",
                _OUTPUT_TYPES[experiment.precision],
                {session.get_outputs()[0].type for session in sessions.values()},
            ),
            check("threads", str(self._settings.thread_count), {str(item.intra_op_num_threads) for item in options}),
            check(
                "graph optimization",
                asked.graph_optimization_level.name,
                {item.graph_optimization_level.name for item in options},
            ),
            check("execution mode", asked.execution_mode.name, {item.execution_mode.name for item in options}),
            *verify_call(experiment, witness, images, self.unet_calls),
        ]
        if experiment.inter_op_threads is not None:
            checks.append(
                check(
                    "inter-op threads",
                    str(experiment.inter_op_threads),
                    {str(item.inter_op_num_threads) for item in options},
                )
            )
        if self.device.type == "cuda":
            tf32 = {session.get_provider_options()[CUDA_PROVIDER]["use_tf32"] for session in sessions.values()}
            checks.append(check("TF32", "0", tf32))
        return tuple(checks)

    def _backend_version(self) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    def _thread_count(self) -> int:
        (count,) = {runner.session.get_session_options().intra_op_num_threads for runner in self._runners.values()}
        return int(count)
