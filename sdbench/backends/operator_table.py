"""From the events of a profiler to the table of a call's operators and kernels by phase."""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sdbench.schema.operators import OUTSIDE, REST, ROWS_MAX, OperatorRow

NO_OPERATOR = "no operator"
_NS = 1e-9
_DIGITS = 8
# The operator that computes, below one whose FLOP are known from its inputs: aten::conv2d calls aten::convolution,
# which calls aten::_convolution, which calls aten::mkldnn_convolution.
_KINDS = tuple(map(re.compile, ("conv", "attention|flash|fmha", "mm|gemm|linear")))
Shapes = tuple[tuple[int, ...], ...]
_Key = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class OperatorEvent:
    """One operator on the CPU: its times (ns), and what of its inputs is known; ``flop`` is 0 where it is unknown."""

    name: str
    start_ns: int
    end_ns: int
    correlation: int = 0
    shapes: Shapes = ()
    input_bytes: int | None = None
    flop: int = 0


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One kernel or copy on the GPU: its times (ns), the operator that launched it, and when (ns) the host did.

    ``launched_by`` is the correlation of the operator, 0 where there is none; ``launched_ns`` is None where it is
    unknown.
    """

    name: str
    start_ns: int
    end_ns: int
    launched_by: int
    launched_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PhaseMark:
    """When (ns) a phase begins, on the CPU. The last mark of a call ends it."""

    phase: str
    start_ns: int


@dataclass(frozen=True, slots=True)
class Wait:
    """When (ns) the host began to wait for the GPU, and how long (ns) it did."""

    start_ns: int
    duration_ns: int


@dataclass
class _Node:
    event: OperatorEvent
    self_ns: int
    depth: int
    # Of the nodes in their order, the last one that this one called.
    last: int
    flop: int = 0
    kernel_ns: int = 0


@dataclass
class _Sum:
    calls: int = 0
    self_ns: int = 0
    flop: int = 0
    bytes: int | None = None
    shapes: set[Shapes] = field(default_factory=set)


class Phases:
    """The phases of the host's time line."""

    def __init__(self, marks: Sequence[PhaseMark]) -> None:
        self._marks = marks
        self._starts = [mark.start_ns for mark in marks]
        self.start_ns, self.end_ns = self._starts[0], self._starts[-1]

    def at(self, time_ns: int) -> str:
        """Return the phase that the host was in."""
        return self._marks[max(0, bisect_right(self._starts, time_ns) - 1)].phase

    def split(self, start_ns: int, end_ns: int) -> Iterator[tuple[str, int]]:
        """Yield the phases of an interval of the host's time, each with how long (ns) it lasted within."""
        for index in range(max(0, bisect_right(self._starts, start_ns) - 1), len(self._marks) - 1):
            if self._starts[index] >= end_ns:
                return
            within_ns = min(end_ns, self._starts[index + 1]) - max(start_ns, self._starts[index])
            yield self._marks[index].phase, within_ns


def make_rows(
    operators: Iterable[OperatorEvent],
    kernels: Sequence[KernelEvent],
    marks: Sequence[PhaseMark],
    call_count: int = 1,
    scales: Mapping[str, float] | None = None,
) -> tuple[OperatorRow, ...]:
    """Return the rows of a table, means over ``call_count`` calls: with kernels, their time on the GPU.

    ``operators`` are those of the thread that called, ``marks`` begin with the first call and end with the last.
    ``scales`` says of a phase that was cut how many times as long it is in a whole call.
    """
    nodes, phases = _nest(operators), Phases(marks)
    sums = _sum_kernels(nodes, kernels, phases) if kernels else _sum_operators(nodes, phases)
    return _make_rows(sums, call_count, scales or {})


def _make_rows(sums: Mapping[_Key, _Sum], call_count: int, scales: Mapping[str, float]) -> tuple[OperatorRow, ...]:
    return _limit([_row(key, total, scales.get(key[0], 1.0) / call_count) for key, total in sums.items()])


def make_rows_of_phases(
    operators: Iterable[tuple[str, OperatorEvent]],
    walls_ns: Mapping[str, int],
    call_count: int,
    scales: Mapping[str, float],
) -> tuple[OperatorRow, ...]:
    """Return the rows of operators that do not overlap, each with its phase, within phases of these lengths (ns)."""
    sums: dict[_Key, _Sum] = {}
    outside_ns = dict(walls_ns)
    for phase, event in operators:
        duration_ns = event.end_ns - event.start_ns
        _add(sums, (phase, event.name, None), _Node(event, duration_ns, 0, 0, flop=event.flop), duration_ns)
        outside_ns[phase] -= duration_ns
    return _make_rows(sums | _outside(outside_ns), call_count, scales)


def sum_waits(
    waits: Iterable[Wait], marks: Sequence[PhaseMark], call_count: int, scales: Mapping[str, float]
) -> tuple[int, float]:
    """Return how often and how long (s) the host waits in a whole call, as the means of ``make_rows``."""
    phases = Phases(marks)
    weighted = [(scales.get(phases.at(wait.start_ns), 1.0) / call_count, wait.duration_ns) for wait in waits]
    return round(sum(weight for weight, _ in weighted)), sum(weight * ns for weight, ns in weighted) * _NS


def _sum_operators(nodes: Sequence[_Node], phases: Phases) -> dict[_Key, _Sum]:
    """Return the operators by phase with the time of each that is no other's, and what is left of each phase."""
    _place_flop(nodes)
    sums: dict[_Key, _Sum] = {}
    outside_ns = _add_up(phases.split(phases.start_ns, phases.end_ns))
    for node in nodes:
        phase = phases.at(node.event.start_ns)
        _add(sums, (phase, node.event.name, None), node, node.self_ns)
        outside_ns[phase] -= node.self_ns
    return sums | _outside(outside_ns)


def _sum_kernels(nodes: Sequence[_Node], kernels: Sequence[KernelEvent], phases: Phases) -> dict[_Key, _Sum]:
    """Return the kernels by phase and operator; each moment counts once, for the kernel that began first.

    A moment without a kernel belongs to the phase that the host was in: the GPU waited for it.
    """
    by_correlation = {node.event.correlation: node for node in nodes}
    by_correlation.pop(0, None)
    longest: dict[int, KernelEvent] = {}
    for kernel in kernels:
        if kernel.launched_by in by_correlation:
            by_correlation[kernel.launched_by].kernel_ns += kernel.end_ns - kernel.start_ns
            other = longest.setdefault(kernel.launched_by, kernel)
            longest[kernel.launched_by] = max(other, kernel, key=lambda item: item.end_ns - item.start_ns)
    _place_flop(nodes)
    sums: dict[_Key, _Sum] = {}
    gaps: list[tuple[str, int]] = []
    covered_ns = phases.start_ns
    for kernel in sorted(kernels, key=lambda item: item.start_ns):
        start_ns, end_ns = max(covered_ns, kernel.start_ns), min(kernel.end_ns, phases.end_ns)
        gaps += phases.split(covered_ns, min(start_ns, phases.end_ns))
        node = by_correlation.get(kernel.launched_by)
        launched_ns = kernel.launched_ns or (node.event.start_ns if node else kernel.start_ns)
        name = node.event.name if node else NO_OPERATOR
        # Its FLOP and bytes count once, however many kernels an operator launches.
        computes = node if node and longest[kernel.launched_by] is kernel else None
        _add(sums, (phases.at(launched_ns), name, kernel.name), computes, max(0, end_ns - start_ns))
        covered_ns = max(covered_ns, end_ns)
    gaps += phases.split(covered_ns, phases.end_ns)
    return sums | _outside(_add_up(gaps))


def _add(sums: dict[_Key, _Sum], key: _Key, node: _Node | None, self_ns: int) -> None:
    total = sums.setdefault(key, _Sum())
    total.calls += 1
    total.self_ns += self_ns
    if node:
        total.flop += node.flop
        total.shapes.add(node.event.shapes)
        if node.event.input_bytes is not None:
            total.bytes = (total.bytes or 0) + node.event.input_bytes


def _add_up(parts: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for phase, duration_ns in parts:
        sums[phase] = sums.get(phase, 0) + duration_ns
    return sums


def _outside(durations_ns: Mapping[str, int]) -> dict[_Key, _Sum]:
    return {(phase, OUTSIDE, None): _Sum(self_ns=duration_ns) for phase, duration_ns in durations_ns.items()}


def _nest(operators: Iterable[OperatorEvent]) -> list[_Node]:
    """Return the operators in the order in which they began, each with the time (ns) that is its own."""
    nodes: list[_Node] = []
    stack: list[_Node] = []
    for event in sorted(operators, key=lambda item: (item.start_ns, -item.end_ns)):
        while stack and stack[-1].event.end_ns <= event.start_ns:
            stack.pop()
        if stack:
            stack[-1].self_ns -= event.end_ns - event.start_ns
        for caller in stack:
            caller.last = len(nodes)
        nodes.append(_Node(event, event.end_ns - event.start_ns, len(stack), len(nodes)))
        stack.append(nodes[-1])
    return nodes


def _place_flop(nodes: Sequence[_Node]) -> None:
    """Put the FLOP that are known of an operator's inputs where they are spent: below it, and only once."""
    for index in reversed(range(len(nodes))):
        known = nodes[index].event
        if not known.flop:
            continue
        members = nodes[index : nodes[index].last + 1]
        if any(member.flop for member in members):
            continue
        kind = next((pattern for pattern in _KINDS if pattern.search(known.name)), None)
        ranks = [
            (node.kernel_ns > 0, bool(kind and kind.search(node.event.name)), node.kernel_ns, node.depth, node.self_ns)
            for node in members
        ]
        members[ranks.index(max(ranks))].flop = known.flop


def _row(key: _Key, total: _Sum, factor: float) -> OperatorRow:
    phase, operator, kernel = key
    return OperatorRow(
        phase=phase,
        operator=operator,
        kernel=kernel,
        calls=round(total.calls * factor),
        self_s=total.self_ns * _NS * factor,
        shapes=_digest(total.shapes),
        flop=round(total.flop * factor) or None,
        bytes=None if total.bytes is None else round(total.bytes * factor),
    )


def _digest(shapes: set[Shapes]) -> str | None:
    if not any(shapes):
        return None
    return hashlib.sha256(repr(sorted(shapes)).encode()).hexdigest()[:_DIGITS]


def _limit(rows: list[OperatorRow]) -> tuple[OperatorRow, ...]:
    """Return the longest rows and, per phase, what is outside operators and the rest."""
    ordered = sorted(rows, key=lambda row: -row.self_s)
    own = [row for row in ordered if row.operator != OUTSIDE]
    kept, others = own[:ROWS_MAX], own[ROWS_MAX:]
    rest = []
    for phase in dict.fromkeys(row.phase for row in others):
        members = [row for row in others if row.phase == phase]
        calls, self_s = sum(row.calls for row in members), sum(row.self_s for row in members)
        fields = {"phase": phase, "operator": REST, "kernel": None, "shapes": None, "bytes": None}
        flop = sum(row.flop or 0 for row in members) or None
        rest.append(OperatorRow(**fields, calls=calls, self_s=self_s, flop=flop))
    return (*kept, *rest, *(row for row in ordered if row.operator == OUTSIDE))
