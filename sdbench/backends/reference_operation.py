"""A fixed operation that shows how fast the machine is at the moment: a matrix product and a convolution, by torch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sdbench.backends.base import Clock, ReferenceSamples, where_memory_ran_out
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Precision

if TYPE_CHECKING:
    import torch

# The first run of them is not kept: it may wait for threads and kernels.
_RUNS_MIN, _RUNS_MAX = 2, 7
# No further run begins that would end beyond it.
_BUDGET_S = 0.2
_CHANNELS = 64
_KERNEL = 3
_ANY_SEED = 0


@dataclass(frozen=True)
class _Work:
    """The sides of the square matrices and of the image, and how often a sample runs the two on the same input."""

    matrix: int
    image: int
    repeats: int

    @property
    def name(self) -> str:
        times = f"{self.repeats} times " if self.repeats > 1 else ""
        return (
            f"{times}matrix product {self.matrix}x{self.matrix} and convolution {_KERNEL}x{_KERNEL}, "
            f"{_CHANNELS} channels of {self.image}x{self.image}"
        )


# Measured on two cores without AMX: 9 ms a sample in fp32, 10 in bf16, 40 in fp16, which torch emulates there.
_CPU_WORK: dict[Precision, _Work] = {"fp32": _Work(768, 64, 1), "bf16": _Work(512, 32, 1), "fp16": _Work(256, 16, 1)}
# 22 GFLOP a time: repeated, so that launching the kernels (about 10 us) is hidden behind running them.
_CUDA_WORK = _Work(2048, 256, 20)


def time_reference_operation(
    device: "torch.device", precision: Precision, dtype: "torch.dtype", clock: Clock
) -> Reading[ReferenceSamples]:
    """Return up to six samples (s) of the operation on ``device``, after one that is not kept.

    The pipeline's memory stays as it is; where none is left for the operation, there are no samples.
    """
    import torch

    work = _CUDA_WORK if device.type == "cuda" else _CPU_WORK[precision]
    try:
        with _memory_apart(device), torch.inference_mode():
            samples_s = _time(_prepare(work, device, dtype), clock)
    except (RuntimeError, MemoryError) as error:
        if where_memory_ran_out(error) is None:
            raise
        return Unknown(reason="no memory was left for the reference operation")
    return Known(value=ReferenceSamples(work.name, precision, str(device), torch.get_num_threads(), samples_s))


def _prepare(work: _Work, device: "torch.device", dtype: "torch.dtype") -> Callable[[], None]:
    """Return the operation on tensors of its own; it returns when the device has run it."""
    import torch

    # A generator of its own: the pipeline's random numbers stay what they are.
    draw = partial(torch.rand, generator=torch.Generator(device).manual_seed(_ANY_SEED), device=device)
    matrix, image, kernels = (
        draw(shape).to(dtype)
        for shape in (
            (work.matrix, work.matrix),
            (1, _CHANNELS, work.image, work.image),
            (_CHANNELS, _CHANNELS, _KERNEL, _KERNEL),
        )
    )
    cuda: Any = torch.cuda if device.type == "cuda" else None

    def run() -> None:
        for _ in range(work.repeats):
            torch.matmul(matrix, matrix)
            torch.conv2d(image, kernels, padding="same")
        if cuda:
            cuda.synchronize(device)

    return run


def _time(run: Callable[[], None], clock: Clock) -> tuple[float, ...]:
    times_s: list[float] = []
    while len(times_s) < _RUNS_MIN or (len(times_s) < _RUNS_MAX and sum(times_s) + times_s[-1] <= _BUDGET_S):
        start_s = clock.now_s()
        run()
        times_s.append(clock.now_s() - start_s)
    return tuple(times_s[1:])


@contextmanager
def _memory_apart(device: "torch.device") -> Iterator[None]:
    """Take GPU memory from a pool that is given back at the end, so that torch reserves no more for the pipeline."""
    if device.type != "cuda":
        yield
        return
    import torch

    cuda: Any = torch.cuda
    with cuda.device(device), cuda.use_mem_pool(cuda.MemPool(), device):
        yield
