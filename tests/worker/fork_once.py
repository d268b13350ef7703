"""Start a real template of the backend named first, fork a worker that does nothing, and print what became of both."""

import json
import os
import sys
import time

from sdbench.runner.template import TEMPLATE_COMMAND, Template

TIMEOUT_S = 300


def main(backend: str) -> None:
    log = os.environ.get("CUDA_STAND_IN_LOG", os.devnull)
    deadline_s = time.monotonic() + TIMEOUT_S
    template = Template(TEMPLATE_COMMAND, backend, os.environ, deadline_s, lambda: None)
    with open(log, encoding="ascii") as stream:  # noqa: PTH123 - also /dev/null
        calls_before = len(stream.readlines())
    worker = template.fork(deadline_s)
    os.close(worker.pipes.request_fd)
    with os.fdopen(worker.pipes.events_fd) as stream:
        (event,) = map(json.loads, stream)
    worker.kill()
    template.close()
    print(json.dumps({"unsafe": template.unsafe, "cuda_init_calls": calls_before, "event": event}))


if __name__ == "__main__":
    main(sys.argv[1])
