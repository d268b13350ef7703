"""The trace for a viewer: what is in it, and what never is."""

import gzip
import json
from typing import Any

import pytest

from sdbench.backends.profiler_events import read_events
from sdbench.backends.trace_file import TraceTooLarge, write_trace
from tests.backends.kineto import Event, kernel, mark, operator
from tests.backends.test_operator_table import gpu_call


def trace_of(events: list[Event], bytes_max: int = 2**20) -> list[dict[str, Any]]:
    content = write_trace(events, read_events(events).marks_of_first_call(), bytes_max)
    entries: list[dict[str, Any]] = json.loads(gzip.decompress(content))["traceEvents"]
    return entries


def test_trace_has_phases_operators_kernels_and_who_launched_them() -> None:
    entries = trace_of(gpu_call())
    complete = {entry["name"]: entry for entry in entries if entry["ph"] == "X"}
    names = {(entry["pid"], entry["tid"]): entry["args"]["name"] for entry in entries if entry["name"] == "thread_name"}
    convolution = complete["sm80_xmma_fprop_implicit_gemm_f16f16"]
    assert (convolution["ts"], convolution["dur"]) == (20, 100)
    assert convolution["args"]["operator"] == complete["aten::cudnn_convolution"]["args"]["correlation"] == 2
    assert convolution["args"]["correlation"] == complete["cudaLaunchKernel"]["args"]["correlation"] - 1 == 901
    assert {names[entry["pid"], entry["tid"]] for entry in complete.values()} == {"phases", "thread 1", "stream 2"}
    assert complete["denoise_step"]["dur"] == 20


def test_trace_has_only_listed_keys_and_no_paths_numbers_of_processes_or_regions_of_programs() -> None:
    events = [
        mark("call", 0),
        operator("aten::mm", 1, 2, its_shapes=((2, 3), (3, 4)), thread=139_872),
        operator("load(/home/alice/models/secret.safetensors)", 2, 3),
        operator(r"load(C:\Users\alice\model)", 3, 4),
        Event("alice's region", 4, 5, activity="user_annotation", annotation=True),
        mark("end", 10),
    ]
    entries = trace_of(events)
    assert {key for entry in entries for key in entry} == {"name", "ph", "ts", "dur", "pid", "tid", "args"}
    assert {key for entry in entries for key in entry.get("args", {})} == {"name", "correlation", "shapes"}
    text = json.dumps(entries)
    assert "alice" not in text
    assert "secret" not in text
    assert "139872" not in text
    assert "load((path))" in text
    assert {entry["pid"] for entry in entries} == {0, 1}


def test_trace_is_of_the_first_call() -> None:
    events = [
        mark("call", 0),
        operator("one::op", 1, 2),
        mark("call", 10),
        operator("two::op", 11, 12),
        mark("end", 20),
    ]
    names = {entry["name"] for entry in trace_of(events)}
    assert "one::op" in names
    assert "two::op" not in names


def test_trace_beyond_its_limit_is_refused() -> None:
    events = [mark("call", 0), *(kernel("k" * 200, index, index + 1) for index in range(50)), mark("end", 100)]
    with pytest.raises(TraceTooLarge):
        trace_of(events, 10_000)
    assert len(trace_of(events, 20_000)) > 50


def test_trace_that_is_too_large_for_the_way_to_the_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.backends.trace_file.TRACE_BYTES_MAX", 100)
    with pytest.raises(TraceTooLarge):
        trace_of(gpu_call())
