"""A further call of the pipeline under torch.profiler: its operators by phase, and on a GPU its kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sdbench.backends.observed_call import Mark, ObservedCall
from sdbench.backends.operator_table import KernelEvent, OperatorEvent, PhaseMark, make_rows
from sdbench.schema.operators import OperatorTable

_MARK = "sdbench:"
_END = "end"
# Calls are profiled until they have taken so long (s), so that short ones are not decided by one of them.
_PROFILED_S = 1.0
_CALLS_MAX = 5
_BYTES = {"float": 4, "c10::Half": 2, "c10::BFloat16": 2, "double": 8, "long int": 8, "int": 4, "bool": 1}
# Their FLOP are counted by torch from the shapes of their inputs; others count elements.
_COUNTED = {"aten::conv2d", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


@dataclass
class MarkedCall(ObservedCall):
    """While entered, writes where each phase begins into the profiler's trace."""

    def _mark(self, next_phase: str) -> Mark:
        mark_phase(next_phase)
        return super()._mark(next_phase)


def mark_phase(phase: str) -> None:
    """Write an event of no duration into the trace: from here on, what runs belongs to ``phase``."""
    import torch

    with torch.profiler.record_function(f"{_MARK}{phase}"):
        pass


def profile_calls(call: MarkedCall, generate: Callable[[], object], synchronize: Callable[[], None]) -> OperatorTable:
    """Return the table of up to five calls, which end when they have taken a second.

    Run it after the timed calls, because CUPTI, once it was used, may stay in the process.
    """
    import torch

    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, activity.CUDA] if call.device.type == "cuda" else [activity.CPU]
    # acc_events: without it torch 2.10 warns that it clears the events of a cycle, of which there is one.
    profiler: Any = torch.profiler.profile(activities=activities, record_shapes=True, with_flops=True, acc_events=True)
    count, started_s = 0, call.clock.now_s()
    with profiler, call:
        synchronize()
        while count < _CALLS_MAX and (count == 0 or call.clock.now_s() - started_s < _PROFILED_S):
            mark_phase("rest")
            generate()
            synchronize()
            count += 1
        mark_phase(_END)
    return read_table(profiler.profiler.kineto_results.events(), count)


def read_table(events: Any, call_count: int) -> OperatorTable:
    """Return the table of ``call_count`` calls from torch's own events."""
    import torch
    from torch._C._autograd import DeviceType

    operators: list[OperatorEvent] = []
    kernels: list[KernelEvent] = []
    marks: list[PhaseMark] = []
    for event in events:
        name, start_ns, end_ns = event.name(), event.start_ns(), event.end_ns()
        if event.device_type() != DeviceType.CPU:
            if not name.startswith(_MARK):
                kernels.append(KernelEvent(name, start_ns, end_ns, event.linked_correlation_id()))
        elif name.startswith(_MARK):
            marks.append(PhaseMark(name.removeprefix(_MARK), start_ns))
        elif name.startswith("aten::"):
            operators.append(_read_operator(event, name, start_ns, end_ns))
    marks.sort(key=lambda mark: mark.start_ns)
    call_s = (marks[-1].start_ns - marks[0].start_ns) / 1e9 / call_count
    return OperatorTable(
        profiler=f"torch.profiler {torch.__version__}",
        call_count=call_count,
        call_s=call_s,
        rows=make_rows(operators, kernels, marks, call_count),
        ran={},
        host_wait_count=None,
        host_wait_s=None,
    )


def _read_operator(event: Any, name: str, start_ns: int, end_ns: int) -> OperatorEvent:
    shapes = tuple(tuple(shape) for shape in event.shapes())
    sizes = [
        _size(shape) * _BYTES[dtype] for shape, dtype in zip(shapes, event.dtypes(), strict=False) if dtype in _BYTES
    ]
    return OperatorEvent(
        name=name,
        start_ns=start_ns,
        end_ns=end_ns,
        correlation=event.correlation_id(),
        shapes=shapes,
        input_bytes=sum(sizes),
        flop=event.flops() if name in _COUNTED else 0,
    )


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
