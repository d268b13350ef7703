"""A worker that speaks the real protocol and misbehaves as the experiment's prompt says; it measures nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from sdbench.backends.orphans import die_with
from sdbench.schema.wire import FailureEvent, Measurement, ResultEvent, SampleEvent, StageEvent, WorkerRequest
from tests.records import make_launch

SHARED = (
    "series",
    "import_s",
    "load_s",
    "first_call_s",
    "worker_cpu_s",
    "stop_reason",
    "memory",
    "energy",
    "checks",
    "images",
    "exports",
    "study",
    "batch",
    "environment",
)


def main() -> None:
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    request = WorkerRequest.model_validate_json(sys.stdin.read())
    behaviour, _, argument = request.experiment.prompt.partition(":")
    stream = os.fdopen(fd, "wb", buffering=0)

    def say(event: StageEvent | SampleEvent | ResultEvent | FailureEvent) -> None:
        stream.write(event.model_dump_json().encode() + b"\n")

    say(StageEvent(stage="load"))
    say(SampleEvent(latency_s=0.1, warmup=True))
    act(behaviour, argument, stream.fileno())
    if behaviour == "oom":
        say(
            FailureEvent(
                stage="first call", error_type="OutOfMemoryError", message="CUDA out of memory", out_of_memory="device"
            )
        )
        return
    if behaviour == "raise":
        print("a line before the end", file=sys.stderr)
        say(
            FailureEvent(
                stage="load",
                error_type="ValueError",
                message=f"bad {os.environ.get('HOME')}/secret",
                out_of_memory=None,
            )
        )
        return
    launch = make_launch()
    fields = {name: getattr(launch, name) for name in SHARED}
    say(ResultEvent(measurement=Measurement(**fields, warnings=(), pictures=())))
    if behaviour == "linger":
        signal.pause()


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
            if argument:  # a FIFO: say who hangs, once; where it is gone, all is well
                if not Path(argument).exists():
                    return
                Path(argument).write_text(str(os.getpid()))
            while True:
                signal.pause()
        case "garbage":
            os.write(fd, b"\xff\xfe this is no event\n")
        case "noise":
            print("x" * 100_000)
            print("y" * 100_000, file=sys.stderr, flush=True)
        case "orphan":
            subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=(fd,))
            sys.stdout.flush()
            os._exit(3)


if __name__ == "__main__":
    main()
