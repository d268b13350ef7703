"""A template that forks fake workers, and misbehaves as FAKE_TEMPLATE says; it imports no library."""

import faulthandler
import os
import signal
import socket
import sys

from sdbench.processes import die_with
from sdbench.schema.wire import FailureEvent, TemplateReady, UnusableForkEvent
from sdbench.worker.template import send, serve
from tests.runner.fake_worker import act_as_requested


def run_worker(fd: int) -> int:
    if os.environ.get("FAKE_TEMPLATE") == "unusable fork":
        os.write(fd, UnusableForkEvent(reason="a test says so").model_dump_json().encode() + b"\n")
    else:
        act_as_requested(fd)
    return 0


def main() -> None:
    die_with(int(sys.argv[2]))
    unsafe = None
    with socket.socket(fileno=int(sys.argv[1])) as control:
        match os.environ.get("FAKE_TEMPLATE"):
            case "dies":
                print("the last line", flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hangs":
                faulthandler.register(signal.SIGUSR1)
                signal.pause()
            case "cannot import":
                send(control, FailureEvent(stage="import", error_type="ImportError", message="x", out_of_memory=None))
                return
            case "no memory":
                send(control, FailureEvent(stage="import", error_type="MemoryError", message="", out_of_memory="host"))
                return
            case "unsafe":
                unsafe = "a test says so"
        send(control, TemplateReady(import_s=0.0, unsafe=unsafe))
        serve(control, run_worker)


if __name__ == "__main__":
    main()
