"""From the events of a profiler to the table of a call's operators and kernels by phase."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sdbench.schema.operators import OUTSIDE, REST, ROWS_MAX, OperatorRow

_NS = 1e-9
_DIGITS = 8
Shapes = tuple[tuple[int, ...], ...]


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
    """One kernel on the GPU: its times (ns), and the correlation of the operator that launched it."""

    name: str
    start_ns: int
    end_ns: int
    launched_by: int


@dataclass(frozen=True, slots=True)
class PhaseMark:
    """When (ns) a phase begins, on the CPU. The last mark of a call ends it."""

    phase: str
    start_ns: int


@dataclass
class _Node:
    event: OperatorEvent
    self_ns: int
    parent: "_Node | None"
    # Where the FLOP of the operators around it were spent: in the one of them that took longest itself.
    flop: int = 0


@dataclass
class _Sum:
    calls: int = 0
    self_ns: int = 0
    flop: int = 0
    bytes: int | None = 0
    shapes: list[Shapes] = field(default_factory=list)


def make_rows(
    operators: Iterable[OperatorEvent], kernels: Sequence[KernelEvent], marks: Sequence[PhaseMark], call_count: int = 1
) -> tuple[OperatorRow, ...]:
    """Return the rows of a table, means over ``call_count`` calls: with kernels, their time on the GPU.

    ``operators`` are those of the thread that called, ``marks`` begin with the first call and end with the last.
    """
    nodes = _nest(operators)
    starts = [mark.start_ns for mark in marks]
    sums: dict[tuple[str, str, str | None], _Sum] = {}

    def add(node: _Node | None, start_ns: int, kernel: KernelEvent | None, self_ns: int) -> None:
        phase = marks[max(0, bisect_right(starts, start_ns) - 1)].phase
        name = node.event.name if node else OUTSIDE
        total = sums.setdefault((phase, name, kernel.name if kernel else None), _Sum())
        total.calls += 1
        total.self_ns += self_ns
        if node:
            total.flop += node.flop
            size = node.event.input_bytes
            total.bytes = None if total.bytes is None or size is None else total.bytes + size
            total.shapes.append(node.event.shapes)

    if kernels:
        by_correlation = {node.event.correlation: node for node in nodes}
        for kernel in kernels:
            node = by_correlation.get(kernel.launched_by)
            start_ns = node.event.start_ns if node else kernel.start_ns
            add(node, start_ns, kernel, kernel.end_ns - kernel.start_ns)
    else:
        for node in nodes:
            add(node, node.event.start_ns, None, node.self_ns)
    walls_ns = _phase_walls_ns(nodes, kernels, marks)
    for phase, wall_ns in walls_ns.items():
        covered_ns = sum(total.self_ns for key, total in sums.items() if key[0] == phase)
        sums[phase, OUTSIDE, None] = _Sum(calls=0, self_ns=wall_ns - covered_ns, bytes=None)
    rows = [_row(key, total, call_count) for key, total in sums.items()]
    return _limit(rows)


def _nest(operators: Iterable[OperatorEvent]) -> list[_Node]:
    """Return the operators with the time (ns) that is their own, and each FLOP at the one that took it."""
    nodes: list[_Node] = []
    stack: list[_Node] = []
    for event in sorted(operators, key=lambda item: (item.start_ns, -item.end_ns)):
        while stack and stack[-1].event.end_ns <= event.start_ns:
            stack.pop()
        parent = stack[-1] if stack else None
        if parent:
            parent.self_ns -= event.end_ns - event.start_ns
        node = _Node(event, event.end_ns - event.start_ns, parent)
        nodes.append(node)
        stack.append(node)
    longest = {id(node): node for node in nodes}
    for node in reversed(nodes):  # children come after their parents
        if node.parent:
            key = id(node.parent)
            longest[key] = max(longest[key], longest[id(node)], key=lambda item: item.self_ns)
    for node in nodes:
        if node.event.flop:
            longest[id(node)].flop += node.event.flop
    return nodes


def _phase_walls_ns(
    nodes: Sequence[_Node], kernels: Sequence[KernelEvent], marks: Sequence[PhaseMark]
) -> dict[str, int]:
    """Return how long (ns) each phase took: between its marks, or on a GPU from its first kernel to the next phase's.

    The host runs ahead of the GPU, so that a mark of the CPU's clock lies before what it marks.
    """
    bounds = [mark.start_ns for mark in marks]
    if kernels:
        starts_ns = {node.event.correlation: node.event.start_ns for node in nodes}
        first: dict[int, int] = {}
        for kernel in kernels:
            launched_ns = starts_ns.get(kernel.launched_by, kernel.start_ns)
            index = max(0, bisect_right(bounds, launched_ns) - 1)
            first[index] = min(first.get(index, kernel.start_ns), kernel.start_ns)
        later = marks[-1].start_ns
        begins = [0] * len(marks)
        for index in reversed(range(len(marks))):
            later = min(later, first.get(index, later))
            begins[index] = later
        bounds = [marks[0].start_ns, *begins[1:-1], marks[-1].start_ns]
    walls: dict[str, int] = {}
    for mark, (start_ns, end_ns) in zip(marks, pairwise(bounds), strict=False):
        walls[mark.phase] = walls.get(mark.phase, 0) + end_ns - start_ns
    return walls


def _row(key: tuple[str, str, str | None], total: _Sum, call_count: int) -> OperatorRow:
    phase, operator, kernel = key
    return OperatorRow(
        phase=phase,
        operator=operator,
        kernel=kernel,
        calls=total.calls // call_count,
        self_s=total.self_ns * _NS / call_count,
        shapes=_digest(total.shapes),
        flop=total.flop // call_count or None,
        bytes=None if total.bytes is None else total.bytes // call_count,
    )


def _digest(shapes: list[Shapes]) -> str | None:
    if not any(shapes):
        return None
    return hashlib.sha256(repr(sorted(set(shapes))).encode()).hexdigest()[:_DIGITS]


def _limit(rows: list[OperatorRow]) -> tuple[OperatorRow, ...]:
    """Return the longest rows and, per phase, what is outside operators and the rest."""
    ordered = sorted(rows, key=lambda row: -row.self_s)
    own = [row for row in ordered if row.operator != OUTSIDE]
    kept, others = own[:ROWS_MAX], own[ROWS_MAX:]
    rest = []
    for phase in dict.fromkeys(row.phase for row in others):
        members = [row for row in others if row.phase == phase]
        calls, self_s = sum(row.calls for row in members), sum(row.self_s for row in members)
        fields = {"phase": phase, "operator": REST, "kernel": None, "shapes": None, "flop": None, "bytes": None}
        rest.append(OperatorRow(**fields, calls=calls, self_s=self_s))
    return (*kept, *rest, *(row for row in ordered if row.operator == OUTSIDE))
