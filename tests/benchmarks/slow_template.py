"""A template whose workers take 5 % longer for a call with seed 2: a slowdown of known size for ``ab`` to find."""

import sys
import time
from typing import Any

from sdbench.backends.diffusers_call import DiffusersCall
from sdbench.worker.template import main

SLOW_SEED = 2
DELAY = 0.05
_generate = DiffusersCall.generate


def _generate_slowly(call: DiffusersCall) -> tuple[Any, ...]:
    started_s = time.perf_counter()
    images = _generate(call)
    if call.experiment.seed == SLOW_SEED:
        end_s = started_s + (1 + DELAY) * (time.perf_counter() - started_s)
        while time.perf_counter() < end_s:
            pass
    return images


if __name__ == "__main__":
    DiffusersCall.generate = _generate_slowly  # type: ignore[method-assign, assignment]
    main(sys.argv[1:])
