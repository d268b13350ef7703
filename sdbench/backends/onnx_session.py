"""Sessions of onnxruntime: opened as requested, refused where something else would run, fed with torch's own memory."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.backends.base import WrongExecution
from sdbench.backends.observed_call import check
from sdbench.errors import EnvironmentProblem
from sdbench.probes.out_of_memory import find_memory, where_memory_ran_out
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check

if TYPE_CHECKING:
    import torch

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
# From 23 on attention is one operator of ONNX, for which the CUDA provider has fused kernels, as torch has. On the CPU
# there is less to win: on one core and at 64, 256 and 512 pixels, a UNet call of `tiny-sd` took 1.09, 1.00 and 0.93
# times as long as with 20, and a decode 1.18 and 1.10 times (64 and 256): norms too are one operator from 21 on.
OPSETS = {CPU_PROVIDER: 20, CUDA_PROVIDER: 23}
# TF32 is on by default; an fp32 experiment means fp32. The arena would take up to twice what it needs. By default
# onnxruntime tries all algorithms of a convolution, where torch chooses by rule (cudnn.benchmark is off).
_CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
}
# Where nearly all arithmetic is; shapes and indices are the CPU's on every device.
HEAVY_OPERATORS = frozenset({"Conv", "MatMul", "Gemm", "FusedMatMul", "FusedConv", "Attention", "MultiHeadAttention"})
# onnx/onnx.proto, TensorProto.DataType.
_ELEMENT_TYPES = {"torch.float32": 1, "torch.int64": 7, "torch.float16": 10, "torch.bfloat16": 16}
_TORCH_TYPES = {"float": "float32", "int64": "int64", "float16": "float16", "bfloat16": "bfloat16"}
_ERROR_LEVEL = 3  # onnxruntime's OrtLoggingLevel: its warnings are about nodes put on the CPU on purpose
_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
_SHRINK_ARENA = "memory.enable_memory_arena_shrinkage"
# onnxruntime bfc_arena.cc and allocator.cc: each device's arena reports in these words, and not which one it is.
_OF_ARENA = re.compile(r"[Ff]ailed to allocate memory|[Mm]emory allocation failed|Available memory of|out of memory")
_OPERATORS = (
    re.compile(r"while running (\w+) node"),
    re.compile(r"implementation for (\w+)"),
    re.compile(r"No Op registered for (\w+)"),
    re.compile(r"Fatal error: ([\w.:]+)"),
    re.compile(r"of operator \((\w+)\)"),
)


class SessionFailed(RuntimeError):
    """onnxruntime cannot open an exported network; the message names the part, and the operator where there is one."""


def provider_of(device: str) -> str:
    """Return the execution provider that is to run on a device."""
    return CPU_PROVIDER if device == "cpu" else CUDA_PROVIDER


def check_provider(device: str, onnxruntime: Any) -> None:
    """Do nothing when the installed onnxruntime can run on ``device``.

    Raises:
        EnvironmentProblem: it was built without CUDA.
    """
    if device == "cpu":
        return
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise EnvironmentProblem(
            f"onnxruntime {onnxruntime.__version__} has no {CUDA_PROVIDER}, which {device!r} needs; "
            "install onnxruntime-gpu in its place (make TORCH_BUILD=cuda)"
        )


def open_stream(device: "torch.device") -> Any:
    """Return the stream that torch and onnxruntime share, None on the CPU; CUDA's default one cannot be shared."""
    if device.type == "cpu":
        return None
    import torch

    make_stream: Any = torch.cuda.Stream
    return make_stream(device)


def open_session(part: str, graph: Path, options: Any, device: str, stream: Any) -> Any:
    """Return the session of one part, with what ``make_options`` and ``open_stream`` returned.

    Raises:
        SessionFailed: onnxruntime cannot run the graph.
        WrongExecution: another execution provider than the requested one would run it.
        MemoryError: the host's memory does not suffice; torch.OutOfMemoryError for the device's.
    """
    import onnxruntime

    expected = provider_of(device)
    provider: Any = expected
    if expected == CUDA_PROVIDER:
        shared = {"user_compute_stream": str(stream.cuda_stream)}
        provider = expected, _CUDA_OPTIONS | {"device_id": device.partition(":")[2] or "0"} | shared
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
    except runtime_errors() as error:
        raise explain(error, part, device) from error
    # Otherwise a session that fails later starts again on the CPU.
    session.disable_fallback()
    observed = session.get_providers()[0]
    if observed != expected:
        raise WrongExecution(f"execution provider of the {part}: expected {expected}, observed {observed}")
    return session


def make_options(experiment: Experiment, thread_count: int) -> Any:
    """Return the options of a session; those that an experiment does not set are onnxruntime's own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = experiment.graph_optimization
    name = "ORT_DISABLE_ALL" if level == "disabled" else f"ORT_ENABLE_{level.upper()}"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, name)
    options.intra_op_num_threads = thread_count
    if experiment.inter_op_threads is not None:
        options.inter_op_num_threads = experiment.inter_op_threads
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    # With it the second run at 512x512 took twice as long and 9 GiB.
    options.enable_mem_pattern = False
    options.log_severity_level = _ERROR_LEVEL
    options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
    return options


def heavy_providers(session: Any) -> set[str]:
    """Return which execution providers the convolutions and matrix products of a session were assigned to."""
    return {
        group.ep_name
        for group in session.get_provider_graph_assignment_info()
        for node in group.get_nodes()
        if node.op_type in HEAVY_OPERATORS
    }


def check_cuda_options(device: "torch.device", sessions: Iterable[Any]) -> tuple[Check, ...]:
    """Return the checks of the CUDA provider's options as it reports them: the requested, and all others as are."""
    requested = _CUDA_OPTIONS | {"device_id": str(device.index or 0), "has_user_compute_stream": "1"}
    reported = [session.get_provider_options()[CUDA_PROVIDER] for session in sessions]
    # The address of the stream is another in every process.
    names = sorted({name for options in reported for name in options} - requested.keys() - {"user_compute_stream"})
    others = ("; ".join(f"{name}={options.get(name)}" for name in names) for options in reported)
    text = " or ".join(dict.fromkeys(others))
    return (
        *(
            check(f"CUDA provider: {name}", value, [item.get(name) for item in reported])
            for name, value in requested.items()
        ),
        Check(name="CUDA provider: other options", expected="any", observed=text, passed=True),
    )


@dataclass
class GraphRunner:
    """Runs one part on torch's own tensors: nothing is copied between torch and onnxruntime.

    ``session`` is None while another one takes its place.
    """

    part: str
    session: Any
    device: "torch.device"

    def run(
        self, inputs: "Mapping[str, torch.Tensor]", shape_of: Callable[[Any], tuple[int, ...]]
    ) -> "dict[str, torch.Tensor]":
        """Return the outputs of the graph by name, each of the shape that ``shape_of`` returns for its description.

        Raises:
            MemoryError: the host's memory ran out; torch.OutOfMemoryError for the device's.
            TypeError: the graph has other inputs.
        """
        import torch

        described = {item.name: item for item in self.session.get_inputs()}
        if inputs.keys() != described.keys():
            raise TypeError(f"the graph of the {self.part} takes {sorted(described)}, and was given {sorted(inputs)}")
        placed = {
            name: tensor.to(self.device, _torch_type(described[name])).contiguous() for name, tensor in inputs.items()
        }
        outputs = {
            item.name: torch.empty(shape_of(item), dtype=_torch_type(item), device=self.device)
            for item in self.session.get_outputs()
        }
        if self.device.type == "cuda":
            # What the CPU's nodes read is copied as it is bound, on another stream: it must be computed by then.
            torch.cuda.current_stream(self.device).synchronize()
        binding = self.session.io_binding()
        for name, tensor in placed.items():
            binding.bind_input(name, *self._place_of(tensor))
        for name, tensor in outputs.items():
            binding.bind_output(name, *self._place_of(tensor))
        try:
            self.session.run_with_iobinding(binding)
        except runtime_errors() as error:
            raise explain(error, self.part, str(self.device)) from error
        binding.synchronize_outputs()
        return outputs

    def shrink(self) -> None:
        """Run the smallest input once and free what onnxruntime's arenas then no longer need; raises as ``run``."""
        import numpy as np
        import onnxruntime

        if self.session is None:
            return
        types = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(float16)": np.float16}
        inputs = {}
        for item in self.session.get_inputs():
            if item.type not in types:  # bf16, which numpy does not have
                return
            # Any small number does for a free dimension.
            shape = [8 if isinstance(length, str) else length for length in item.shape]
            inputs[item.name] = np.zeros(shape, types[item.type])
        run_options = onnxruntime.RunOptions()
        arenas = "cpu:0" if self.device.type == "cpu" else f"cpu:0;gpu:{self.device.index or 0}"
        run_options.add_run_config_entry(_SHRINK_ARENA, arenas)
        try:
            self.session.run(None, inputs, run_options)
        except runtime_errors() as error:
            raise explain(error, self.part, str(self.device)) from error

    def _place_of(self, tensor: "torch.Tensor") -> tuple[str, int, int, tuple[int, ...], int]:
        """Return a tensor's device, its index, and the element type, shape and address, as onnxruntime wants them."""
        device = tensor.device
        return device.type, device.index or 0, _ELEMENT_TYPES[str(tensor.dtype)], tuple(tensor.shape), tensor.data_ptr()


def _torch_type(item: Any) -> "torch.dtype":
    """Return torch's type of an input or output, which onnxruntime writes as ``tensor(float16)``."""
    import torch

    dtype: torch.dtype = getattr(torch, _TORCH_TYPES[item.type.removeprefix("tensor(").removesuffix(")")])
    return dtype


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises; its exceptions have no common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*errors, RuntimeError, MemoryError)


def explain(error: Exception, part: str, device: str) -> Exception:
    """Return the exception to raise for one of onnxruntime's: of memory, or one that names the operator."""
    text = str(error)
    where = where_memory_ran_out(error) or find_memory(text)
    if where is None and _OF_ARENA.search(text):
        where = "host" if device == "cpu" else "device"
    if where:
        import torch

        kind = MemoryError if where == "host" else torch.OutOfMemoryError
        return kind(f"onnxruntime ran out of memory in the {part}: {text}")
    operator = next((match[1] for pattern in _OPERATORS if (match := pattern.search(text))), None)
    subject = f"the operator {operator} of the {part}" if operator else f"the {part}"
    return SessionFailed(f"onnxruntime cannot run {subject}: {text}; use backend: pytorch, or another precision")
