"""Sessions of onnxruntime: opened as requested, refused where something else would run, fed with torch's own memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.backends.base import WrongExecution
from sdbench.backends.onnx_export import OUTPUT_NAME
from sdbench.errors import EnvironmentProblem
from sdbench.probes.out_of_memory import find_memory, where_memory_ran_out
from sdbench.schema.experiment import Experiment

if TYPE_CHECKING:
    import torch

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
# Where nearly all arithmetic is; shapes and indices are the CPU's on every device.
HEAVY_OPERATORS = frozenset({"Conv", "MatMul", "Gemm", "FusedMatMul", "FusedConv", "Attention", "MultiHeadAttention"})
# onnx/onnx.proto, TensorProto.DataType.
_ELEMENT_TYPES = {"torch.float32": 1, "torch.int64": 7, "torch.float16": 10, "torch.bfloat16": 16}
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


def open_session(part: str, graph: Path, options: Any, device: str) -> Any:
    """Return the session of one part, with what ``make_options`` returned.

    Raises:
        SessionFailed: onnxruntime cannot run the graph.
        WrongExecution: another execution provider than the requested one would run it.
        MemoryError: the host's memory does not suffice; torch.OutOfMemoryError for the device's.
    """
    import onnxruntime

    expected = provider_of(device)
    # TF32 is on by default on CUDA; an fp32 experiment means fp32.
    on_cuda = (expected, {"device_id": device.partition(":")[2] or "0", "use_tf32": "0"})
    try:
        session = onnxruntime.InferenceSession(
            str(graph), options, providers=[on_cuda if expected == CUDA_PROVIDER else expected]
        )
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


@dataclass(frozen=True)
class GraphRunner:
    """Runs one part on torch's own tensors: nothing is copied between torch and onnxruntime."""

    part: str
    session: Any
    device: "torch.device"

    def run(self, inputs: "Mapping[str, torch.Tensor]", output: "torch.Tensor") -> "torch.Tensor":
        """Return ``output`` filled with what the graph makes of ``inputs``; all are on the session's device.

        Raises:
            MemoryError: the host's memory ran out; torch.OutOfMemoryError for the device's.
        """
        binding = self.session.io_binding()
        contiguous = {name: tensor.contiguous() for name, tensor in inputs.items()}
        for name, tensor in contiguous.items():
            binding.bind_input(name, *self._place_of(tensor))
        binding.bind_output(OUTPUT_NAME, *self._place_of(output))
        if self.device.type == "cuda":
            import torch

            # The inputs must be computed: onnxruntime works on a stream of its own.
            torch.cuda.current_stream(self.device).synchronize()
        try:
            self.session.run_with_iobinding(binding)
        except runtime_errors() as error:
            raise explain(error, self.part, str(self.device)) from error
        binding.synchronize_outputs()
        return output

    def shrink(self) -> None:
        """Run the smallest input once and free what onnxruntime's arenas then no longer need; raises as ``run``."""
        import numpy as np
        import onnxruntime

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
