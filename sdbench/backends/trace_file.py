"""The trace of a profiled call for a viewer (Perfetto, chrome://tracing), with nothing in it but what is listed here.

Trace Event Format, Google: complete events ("ph": "X") with times in microseconds.
"""

import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sdbench.backends.operator_table import PhaseMark
from sdbench.backends.profiler_events import is_on_cpu, kind_of
from sdbench.store.layout import TRACE_BYTES_MAX

_HOST, _GPU = 0, 1
_PHASES_THREAD = 0
_NAME_CHARACTERS = 300
# A Windows or Unix path in a name; torch's own have none.
_PATH = re.compile(r"([A-Za-z]:)?([/\\][\w.@+-]+){2,}[/\\]?")


class TraceTooLarge(Exception):
    """The trace has more bytes than the limit."""


@dataclass
class _Tracks:
    """Threads and streams by small numbers, in the order in which they come."""

    numbers: dict[tuple[int, int], int] = field(default_factory=dict)

    def number(self, process: int, own: int) -> int:
        return self.numbers.setdefault((process, own), len(self.numbers) + 1)


def write_trace(events: Iterable[Any], marks: Sequence[PhaseMark], bytes_max: int) -> bytes:
    """Return the trace between the first and the last of ``marks``, compressed by gzip.

    It holds names of operators, kernels and calls of CUDA, their times, shapes and correlations, and the phases.

    Raises:
        TraceTooLarge: it has more than ``bytes_max`` bytes before it is compressed, or too many after.
    """
    stream, size = io.BytesIO(), 0
    # No time and no name in its header.
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as file:
        separator = '{"displayTimeUnit":"ms","traceEvents":['
        for entry in _entries(events, marks):
            text = f"{separator}\n{json.dumps(entry, separators=(',', ':'))}".encode()
            separator, size = ",", size + len(text)
            if size > bytes_max:
                raise TraceTooLarge
            file.write(text)
        file.write(b"\n]}\n")
    if stream.tell() > TRACE_BYTES_MAX:
        raise TraceTooLarge
    return stream.getvalue()


def _entries(events: Iterable[Any], marks: Sequence[PhaseMark]) -> Iterator[dict[str, Any]]:
    start_ns, end_ns, tracks = marks[0].start_ns, marks[-1].start_ns, _Tracks()
    for mark, later in pairwise(marks):
        yield _complete(mark.phase, mark.start_ns - start_ns, later.start_ns - mark.start_ns, _HOST, _PHASES_THREAD)
    for event in events:
        name = event.name()
        kind = kind_of(event, name)
        if not start_ns <= event.start_ns() < end_ns or kind in ("mark", "other"):
            continue
        times_ns = event.start_ns() - start_ns, event.end_ns() - event.start_ns()
        if not is_on_cpu(event):
            tid = tracks.number(_GPU, event.device_resource_id())
            linked = {"correlation": event.correlation_id(), "operator": event.linked_correlation_id()}
            yield _complete(name, *times_ns, _GPU, tid, linked)
        else:
            tid = tracks.number(_HOST, event.start_thread_id())
            yield _complete(name, *times_ns, _HOST, tid, _describe(event))
    for process, name in ((_HOST, "host"), (_GPU, "GPU")):
        yield _name("process_name", process, 0, name)
    yield _name("thread_name", _HOST, _PHASES_THREAD, "phases")
    for (process, _), tid in tracks.numbers.items():
        yield _name("thread_name", process, tid, f"{'stream' if process == _GPU else 'thread'} {tid}")


def _describe(event: Any) -> dict[str, Any]:
    shapes = event.shapes()
    return {"correlation": event.correlation_id()} | ({"shapes": shapes} if any(shapes) else {})


def _complete(
    name: str, start_ns: int, duration_ns: int, process: int, thread: int, args: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "name": _PATH.sub("(path)", name)[:_NAME_CHARACTERS],
        "ph": "X",
        "ts": start_ns / 1e3,
        "dur": duration_ns / 1e3,
        "pid": process,
        "tid": thread,
    } | ({"args": args} if args else {})


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
