"""Where the time of a call goes where onnxruntime runs the networks: by its own profile of their nodes, on the CPU."""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isqrt, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sdbench.backends.base import Clock, Profile
from sdbench.backends.observed_call import ObservedCall
from sdbench.backends.onnx_parts import part_of
from sdbench.backends.onnx_session import GraphRunner
from sdbench.backends.operator_table import OperatorEvent, Shapes, make_rows_of_phases
from sdbench.backends.profiled_call import DENOISE_PHASE, PROFILED_S, choose_extent
from sdbench.backends.what_ran import make_checks
from sdbench.schema.base import Known
from sdbench.schema.operators import ATTENTION, CONVOLUTION, GEMM, GEMM_PRECISION, OperatorTable
from sdbench.schema.pipeline import DECODER

_US = 1_000  # ns
_BYTES = {"float": 4, "float16": 2, "bfloat16": 2, "double": 8, "int64": 8, "int32": 4, "bool": 1, "uint8": 1}
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose")
_GEMMS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulNBits")
_MOVES_NOTHING = ("Reshape", "Shape", "Squeeze", "Unsqueeze", "Identity", "Constant")


def profile_sessions(
    backend: Any, runners: Mapping[str, GraphRunner], open_profiled: Callable[[str, str], Any], clock: Clock
) -> Profile:
    """Return the profile of a pipeline around sessions, which are each replaced by one that profiles itself.

    ``open_profiled`` opens the session of a part, with a prefix for the file of its profile. The session that was timed
    is freed before, so that no network is in memory twice. Raises as ``Backend.profile_operators`` does.
    """
    with TemporaryDirectory() as folder:
        for part, runner in runners.items():
            runner.session = None
            runner.session = open_profiled(part, str(Path(folder) / part))
        batch, denoiser_calls = backend.experiment.batch, backend.work.denoiser_calls
        nodes = {part: _count_nodes(runner.session) for part, runner in runners.items()}
        step_nodes = nodes.pop(part_of(backend.config.denoiser_name))
        calls_max, most = choose_extent(step_nodes, sum(nodes.values()), denoiser_calls)
        whole = backend if most == denoiser_calls else backend.with_batch(batch, most)
        # The first run of a session takes its memory.
        backend.with_batch(batch, 1).generate()
        calls = list(_time_calls(whole, calls_max, clock))
        profiles = {part: _read(Path(runner.session.end_profiling())) for part, runner in runners.items()}
    runs = {part: _split_runs(events) for part, events in profiles.items()}
    return _make_profile(backend, runs, calls, denoiser_calls)


def _count_nodes(session: Any) -> int:
    return sum(len(group.get_nodes()) for group in session.get_provider_graph_assignment_info())


def _time_calls(backend: Any, calls_max: int, clock: Clock) -> Iterator[tuple[dict[str, float], int]]:
    """Yield the phases (s) of each call, and how often it called the denoiser."""
    started_s, count = clock.now_s(), 0
    while count < calls_max and (count == 0 or clock.now_s() - started_s < PROFILED_S):
        call = ObservedCall(backend.pipeline, backend.config, backend.device, clock)
        with call:
            start_s = clock.now_s()
            backend.generate()
            total_s = clock.now_s() - start_s
        phases_s, steps_s = call.read_phases(total_s)
        yield phases_s | {DENOISE_PHASE: sum(steps_s)}, len(steps_s)
        count += 1


def _make_profile(
    backend: Any,
    runs: Mapping[str, list[list[dict[str, Any]]]],
    calls: list[tuple[dict[str, float], int]],
    denoiser_calls: int,
) -> Profile:
    import onnxruntime

    denoiser, count, profiled = part_of(backend.config.denoiser_name), len(calls), calls[0][1]
    phases = {denoiser: DENOISE_PHASE, part_of(DECODER): "vae_decode"}
    # The last runs of a session are those of the profiled calls; before them was one call, of one step.
    kept = {part: len(items) * count // (count + 1) for part, items in runs.items()} | {denoiser: profiled * count}
    nodes = [
        (phases.get(part, part), event)
        for part, items in runs.items()
        for run in items[-kept[part] :]
        for event in _in_sequence(run)
    ]
    walls_s = {name: sum(phases_s[name] for phases_s, _ in calls) for name in calls[0][0] if name != "total"}
    scale = denoiser_calls / profiled
    rows = make_rows_of_phases(
        nodes, {name: round(wall_s * 1e9) for name, wall_s in walls_s.items()}, count, {DENOISE_PHASE: scale}
    )
    total_s = sum(phases_s["total"] for phases_s, _ in calls) / count
    ran = _describe_ran(event for items in runs.values() for run in items for event in run)
    cut = "" if scale == 1 else f", {profiled} of {denoiser_calls} denoiser calls"
    table = OperatorTable(
        profiler=f"onnxruntime {onnxruntime.__version__}{cut}",
        call_count=count,
        call_s=total_s + walls_s[DENOISE_PHASE] / count * (scale - 1),
        rows=rows,
        ran=ran,
        host_wait_count=None,
        host_wait_s=None,
    )
    return Profile(Known(value=table), make_checks(ran))


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the events of a profile: microseconds, complete events of sessions and nodes."""
    events: list[dict[str, Any]] = json.loads(path.read_bytes())
    return [event for event in events if event.get("cat") in ("Session", "Node")]


def _split_runs(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the nodes of each run of a session, in their order."""
    runs = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])
    nodes = sorted((event for event in events if event["cat"] == "Node"), key=lambda event: event["ts"])
    ends = [run["ts"] + run["dur"] for run in runs]
    split: list[list[dict[str, Any]]] = [[] for _ in runs]
    for node in nodes:
        index = bisect_left(ends, node["ts"])
        if index < len(runs):
            split[index].append(node)
    return split


def _in_sequence(run: Iterable[dict[str, Any]]) -> Iterator[OperatorEvent]:
    """Yield the nodes of a run; each moment counts once, for the node that began first."""
    covered_us = 0
    for node in run:
        start_us, end_us = max(covered_us, node["ts"]), node["ts"] + node["dur"]
        covered_us = max(covered_us, end_us)
        args = node["args"]
        inputs = [(kind, tuple(shape)) for item in args.get("input_type_shape", ()) for kind, shape in item.items()]
        outputs = [tuple(shape) for item in args.get("output_type_shape", ()) for shape in item.values()]
        shapes = tuple(shape for _, shape in inputs)
        name = args["op_name"]
        yield OperatorEvent(
            name=name,
            start_ns=start_us * _US,
            end_ns=max(start_us, end_us) * _US,
            shapes=shapes,
            input_bytes=None
            if name in _MOVES_NOTHING or any(kind not in _BYTES for kind, _ in inputs)
            else sum(prod(shape) * _BYTES[kind] for kind, shape in inputs),
            flop=_count_flop(name, shapes, outputs),
        )


def _count_flop(name: str, shapes: Shapes, outputs: list[tuple[int, ...]]) -> int:
    """Return the FLOP of a convolution or a matrix product, by the shapes that it took and gave; 0 of others.

    Channels that onnxruntime adds to a convolution, up to a block of its layout, are computed and count.
    """
    if not shapes or not outputs or not prod(outputs[0]):
        return 0
    first, output = shapes[0], outputs[0]
    if name in _GEMMS and len(shapes) == 1:  # weights that were packed before are not among the inputs
        return 2 * prod(output) * first[-1]
    if name in _GEMMS:
        # Of (batch, m, k) and (batch, k, n), whichever of them is transposed.
        return 2 * prod(output) * isqrt(prod(first) * prod(shapes[1]) // prod(output) // prod(shapes[1][:-2]))
    return 2 * prod(output) * prod(shapes[1][1:]) if name in _CONVOLUTIONS and len(shapes) > 1 else 0


def _describe_ran(events: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return what really ran, by the nodes of the optimized graphs and the providers that ran them."""
    names: dict[str, set[str]] = {}
    for event in events:
        args = event["args"]
        name, provider = args["op_name"], args["provider"].removesuffix("ExecutionProvider")
        inputs = [kind for item in args.get("input_type_shape", ()) for kind in item]
        if name in _CONVOLUTIONS:
            names.setdefault(CONVOLUTION, set()).add(f"onnxruntime {provider} {name}")
        elif name in _GEMMS:
            names.setdefault(GEMM, set()).add(f"onnxruntime {provider} {name}")
            names.setdefault(GEMM_PRECISION, set()).add(_TYPES.get(inputs[0], inputs[0]) if inputs else "unknown")
        elif name.endswith("Attention"):
            names.setdefault(ATTENTION, set()).add(f"fused ({name})")
        elif name == "Softmax":
            names.setdefault(ATTENTION, set()).add("math (Softmax)")
    return {key: ", ".join(sorted(values)) for key, values in names.items()}
