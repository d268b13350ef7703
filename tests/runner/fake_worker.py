"""A worker that speaks the real protocol and misbehaves as the experiment's prompt says; it measures nothing."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sdbench.processes import die_with
from sdbench.schema.base import Unknown
from sdbench.schema.wire import (
    REQUEST,
    CeilingsEvent,
    CeilingsRequest,
    FailureEvent,
    Measurement,
    ProbeEvent,
    ProbingEvent,
    ResultEvent,
    SampleEvent,
    StageEvent,
    WorkerEvent,
    WorkerRequest,
)
from sdbench.schema.workload_results import BatchProbe, BatchSearch
from tests.fingerprints import make_ceilings
from tests.records import make_launch

SHARED = (
    "series",
    "import_s",
    "load_s",
    "first_call_s",
    "worker_cpu_s",
    "stop_reason",
    "memory",
    "allocator",
    "energy",
    "reference_operation",
    "host_bound_ratio",
    "operators",
    "checks",
    "images",
    "exports",
    "workload_result",
    "batch",
    "environment",
)


def act_as_requested(fd: int) -> None:
    request = REQUEST.validate_json(sys.stdin.read())
    stream = os.fdopen(fd, "wb", buffering=0)

    def emit(event: WorkerEvent) -> None:
        stream.write(event.model_dump_json().encode() + b"\n")

    if isinstance(request, CeilingsRequest):
        measure_ceilings(request, emit, fd)
        return
    behaviour, _, argument = request.experiment.prompt.partition(":")

    emit(StageEvent(stage="load"))
    emit(SampleEvent(latency_s=0.1, warmup=True))
    emit(SampleEvent(latency_s=request.protocol.launch_budget_s, warmup=False))
    if behaviour == "device":
        visible = (request.device, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"])
        Path(argument).write_text(" ".join(visible))
        raise RuntimeError(f"no kernel image on {visible}")
    act(behaviour, argument, stream.fileno())
    if behaviour == "oom":
        emit(
            FailureEvent(
                stage="first call", error_type="OutOfMemoryError", message="CUDA out of memory", out_of_memory="device"
            )
        )
        return
    if behaviour == "lost" and Path(argument).exists():
        message = Path(argument).read_text()
        emit(FailureEvent(stage="load", error_type="EnvironmentProblem", message=message, out_of_memory=None))
        return
    if behaviour == "raise":
        print("a line before the end", file=sys.stderr)
        emit(
            FailureEvent(
                stage="load",
                error_type="ValueError",
                message=f"bad {os.environ.get('HOME')}/secret",
                out_of_memory=None,
            )
        )
        return
    launch = make_launch(batch=request.experiment.batch)
    if request.experiment.workload == "largest-batch":
        workload_result = search(request, int(argument), emit, dies=behaviour == "search-and-die")
        launch = make_launch(workload_result=workload_result, series=(), batch=max(1, workload_result.largest_batch))
    elif behaviour == "search-too-far" and request.experiment.batch >= int(argument):
        emit(FailureEvent(stage="first call", error_type="MemoryError", message="no room", out_of_memory="host"))
        return
    emit(StageEvent(stage="measure"))
    emit(StageEvent(stage="verify"))
    fields = {name: getattr(launch, name) for name in SHARED}
    trace = base64.b64encode(b"a trace").decode() if behaviour == "trace" and request.is_first else None
    emit(ResultEvent(measurement=Measurement(**fields, warnings=(), pictures=(), trace_base64=trace)))
    if behaviour == "linger":
        signal.pause()


def measure_ceilings(request: CeilingsRequest, emit: Callable[[WorkerEvent], None], fd: int) -> None:
    """Answer with the ceilings of an invented machine, ``FAKE_CEILINGS`` times slower, or misbehave as it says."""
    emit(StageEvent(stage="ceilings"))
    behaviour = os.environ.get("FAKE_CEILINGS", "1")
    if not behaviour[0].isdigit():
        act(*behaviour.partition(":")[::2], fd)
    else:
        emit(CeilingsEvent(ceilings=make_ceilings(request.device, float(behaviour))))


def search(request: WorkerRequest, capacity: int, emit: Callable[[WorkerEvent], None], *, dies: bool) -> BatchSearch:
    """Try 1, 2, ...; a batch beyond the capacity does not fit, or kills the process."""
    probes = list(request.known_probes)
    smallest_too_large = min((probe.batch for probe in probes if not probe.fits), default=99)
    for batch in range(1 + sum(probe.fits for probe in probes), smallest_too_large):
        emit(ProbingEvent(batch=batch))
        if batch > capacity and dies:
            print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
            os.abort()
        fits = batch <= capacity
        probe = BatchProbe(batch=batch, fits=fits, peak_bytes=Unknown(reason="fake"), wall_s=0.1, message="")
        emit(ProbeEvent(probe=probe))
        probes.append(probe)
        if not fits:
            break
    too_large = min((probe.batch for probe in probes if not probe.fits), default=99)
    return BatchSearch(
        limit_bytes=10**9,
        limit_source="fake",
        loaded_bytes=Unknown(reason="fake"),
        probes=tuple(probes),
        largest_batch=max((p.batch for p in probes if p.fits and p.batch < too_large), default=0),
        batch_max=256,
    )


def act(behaviour: str, argument: str, fd: int) -> None:
    match behaviour:
        case "crash":
            os.abort()
        case "exit":
            print("giving up", file=sys.stderr)
            sys.exit(7)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            import faulthandler

            faulthandler.register(signal.SIGUSR1)
            if argument:  # a FIFO: write who hangs, once; where it is gone, all is well
                if not Path(argument).exists():
                    return
                Path(argument).write_text(str(os.getpid()))
            while True:
                signal.pause()
        case "garbage":
            os.write(fd, b"\xff\xfe this is not an event\n")
        case "noise":
            print("x" * 100_000)
            print("y" * 100_000, file=sys.stderr, flush=True)
        case "orphan":
            subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=(fd,))
            sys.stdout.flush()
            os._exit(3)


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    act_as_requested(int(sys.argv[1]))
