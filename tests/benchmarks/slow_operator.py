"""A slowdown of known size in one operator of a real pipeline: it does its work again, or Python computes between two.

Sizes are in CPU time, which other programs on the machine change less than the time on the clock.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# What is slowed, by the name of the function in torch.nn.functional, and the family that should lead.
KINDS = {
    "convolution": ("conv2d", "convolution"),
    "attention": ("scaled_dot_product_attention", "attention"),
    "GroupNorm": ("group_norm", "normalisation"),
    "host sync": ("silu", "outside operators"),
}


class SlowOperator:
    """A function of torch that can be made slower, and how long (s) it took since it was last read."""

    def __init__(self, kind: str) -> None:
        """Do not change anything yet."""
        self.kind = kind
        self.name = KINDS[kind][0]
        self.slow = False
        self.extra = 0.0
        self.taken_s = 0.0
        self.count = 0
        self._credit = 0.0

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Put it in the place of the function."""
        import torch

        original = getattr(torch.nn.functional, self.name)
        setattr(torch.nn.functional, self.name, self._wrap(original))
        try:
            yield
        finally:
            setattr(torch.nn.functional, self.name, original)

    def calibrate(self, call: Callable[[], float], ratio: float) -> None:
        """Choose how much to add, so that a call, which returns how long (s) it took, takes ``ratio`` more."""
        call()
        self.taken_s, self.count = 0.0, 0
        calls_s = [call() for _ in range(3)]
        added_s = ratio * sum(calls_s)
        self.extra = added_s / (self.count if self.kind == "host sync" else self.taken_s)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started_s = time.process_time()
            result = original(*args, **kwargs)
            self.taken_s += time.process_time() - started_s
            self.count += 1
            if self.slow and self.kind == "host sync":
                end_s = time.process_time() + self.extra
                while time.process_time() < end_s:
                    pass
            elif self.slow:
                self._credit += self.extra
                while self._credit >= 1:
                    self._credit -= 1
                    # On what it made: copying its input into another layout is no work of its own.
                    original(result if self.kind == "GroupNorm" else args[0], *args[1:], **kwargs)
            return result

        return run
