"""What of the events of torch's profiler a table is made of, by the rules of torch's own reader.

torch/autograd/profiler.py, _parse_kineto_results: a kernel belongs to the operator whose ``correlation_id`` is its
``linked_correlation_id``; with the call of CUDA's runtime that launched it, it shares its ``correlation_id``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from sdbench.backends.kernel_names import shorten_kernel
from sdbench.backends.operator_costs import count_bytes, count_flop
from sdbench.backends.operator_table import KernelEvent, OperatorEvent, PhaseMark, Wait

CALL, END = "call", "end"
# A call of the pipeline begins with what is none of its networks.
_FIRST_PHASE = "rest"
_MARK = "sdbench:"
_RUNTIME = re.compile(r"(cuda|cu|hip)[A-Z]\w*")
_OPERATOR = re.compile(r"\w+::\w+")
_WAIT = re.compile(r"(cuda|cu|hip)\w*Synchronize|(cuda|hip)Memcpy")

Kind = Literal["operator", "runtime", "mark", "other"]


@dataclass
class ProfilerEvents:
    """Events of the thread that called, and of the GPU; ``calls_ns`` is when (ns) each call began."""

    operators: list[OperatorEvent] = field(default_factory=list)
    kernels: list[KernelEvent] = field(default_factory=list)
    marks: list[PhaseMark] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    calls_ns: list[int] = field(default_factory=list)
    event_count: int = 0

    def marks_of_first_call(self) -> list[PhaseMark]:
        """Return the marks from the start of the first call to its end."""
        end_ns = self.calls_ns[1] if len(self.calls_ns) > 1 else self.marks[-1].start_ns
        return [mark for mark in self.marks if mark.start_ns <= end_ns]


def mark_name(phase: str) -> str:
    """Return the name of the event with which a phase begins."""
    return f"{_MARK}{phase}"


def is_on_cpu(event: Any) -> bool:
    """Return whether an event is of the host."""
    return str(event.device_type().name) == "CPU"


def kind_of(event: Any, name: str) -> Kind:
    """Return what an event called ``name`` is: an operator may be of any library, not of torch alone."""
    kind = _kind_by_name(name)
    # Getters are slow, and nearly all events are operators with a namespace.
    if kind is None:
        # torch 2.10 does not say which of the others are operators.
        activity = getattr(event, "activity_type", lambda: "cpu_op")()
        kind = "other" if event.is_user_annotation() or (is_on_cpu(event) and activity != "cpu_op") else "operator"
    return kind


@cache
def _kind_by_name(name: str) -> Kind | None:
    if name.startswith(_MARK):
        return "mark"
    if _RUNTIME.fullmatch(name):
        return "runtime"
    return "operator" if _OPERATOR.fullmatch(name) else None


def read_events(events: Iterable[Any]) -> ProfilerEvents:
    """Return what is needed of torch's events."""
    read = ProfilerEvents()
    threads: list[tuple[int, OperatorEvent]] = []
    launches_ns: dict[int, int] = {}
    on_gpu: list[tuple[Any, str]] = []
    thread = None
    for event in events:
        read.event_count += 1
        name = event.name()
        kind = kind_of(event, name)
        if not is_on_cpu(event):
            on_gpu += [(event, name)] if kind not in ("mark", "other") else []
        elif kind == "operator":
            threads.append((event.start_thread_id(), _read_operator(event, name)))
        elif kind == "runtime":
            start_ns = launches_ns[event.correlation_id()] = event.start_ns()
            if _WAIT.fullmatch(name):
                read.waits.append(Wait(start_ns, event.end_ns() - start_ns))
        elif kind == "mark":
            phase, thread, start_ns = name.removeprefix(_MARK), event.start_thread_id(), event.start_ns()
            read.calls_ns += [start_ns] if phase == CALL else []
            read.marks.append(PhaseMark(_FIRST_PHASE if phase == CALL else phase, start_ns))
    read.marks.sort(key=lambda mark: mark.start_ns)
    read.calls_ns.sort()
    read.operators = [operator for number, operator in threads if number == thread]
    read.kernels = [_read_kernel(event, name, launches_ns) for event, name in on_gpu]
    return read


def _read_kernel(event: Any, name: str, launches_ns: dict[int, int]) -> KernelEvent:
    return KernelEvent(
        name=shorten_kernel(name),
        start_ns=event.start_ns(),
        end_ns=event.end_ns(),
        launched_by=event.linked_correlation_id(),
        launched_ns=launches_ns.get(event.correlation_id()),
    )


def _read_operator(event: Any, name: str) -> OperatorEvent:
    shapes = tuple(map(tuple, event.shapes()))
    return OperatorEvent(
        name=name,
        start_ns=event.start_ns(),
        end_ns=event.end_ns(),
        correlation=event.correlation_id(),
        shapes=shapes,
        input_bytes=count_bytes(name, shapes, event.dtypes()),
        flop=count_flop(name, shapes, event.concrete_inputs),
    )
