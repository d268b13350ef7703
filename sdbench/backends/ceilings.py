"""Measures what a device reaches at best, by torch: matrix products, memory, copies and launches.

Each ceiling is the best of several samples and not their middle, because what disturbs a sample only makes it slower.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sdbench.backends.base import Clock, where_memory_ran_out
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.ceilings import CeilingPrecision, Ceilings, MatrixProduct

if TYPE_CHECKING:
    import torch

# Rows, depth and columns. Large GPUs reach most with the largest; on two cores all of 512 to 2048 are within 2 %. The
# rectangle is a feed-forward layer of Stable Diffusion's UNet at 512x512, of a guided image.
_SHAPES = ((1024,) * 3, (2048,) * 3, (8192, 320, 2560), (4096,) * 3, (8192,) * 3)
# A convolution of that UNet: channels and side. Other libraries compute it: on two cores of an AMD EPYC those of a VAE
# reached 1.35 times MKL's matrix product in fp32.
_CONVOLUTION, _KERNEL = (320, 64), 3
# The first is small enough for fp16 on CPUs that emulate it (5 GFLOP/s: 54 ms), and says which others are.
_FIRST_SHAPE = (512, 512, 512)
# A sample is as many calls as take so long: reading the clock and waiting for a GPU (20 us) are 0.4 % of it. The best
# of shorter ones is steadier than that of longer ones, which something disturbs more often.
_SAMPLE_S = 0.005
# Over so many samples, or so long, the best one settles. A shape of which one call takes longer is left out.
_SAMPLES_MIN, _BUDGET_S, _CALL_MAX_S = 5, 0.15, 0.1
# Caches of CPUs hold up to 1 GiB in a few servers, else far less than the 768 MiB that are touched here.
_COPIED_BYTES = 256 * 2**20
# As many as hide the wait for a GPU at their end.
_LAUNCHES = 2_000
# A GPU raises its clocks only under load, within about half a second.
_WARM_UP_S = 0.5
_NO_MEMORY = Unknown(reason="no memory was left to measure it")
_NO_COPIES = Unknown(reason="the device is the CPU, whose memory is the host's")


def measure_ceilings(
    device_name: str, thread_count: int, precisions: tuple[CeilingPrecision, ...], clock: Clock
) -> Ceilings:
    """Return what a device ("cpu", "cuda:0", ...) reaches with so many CPU threads, in about 3 s.

    What does not fit into memory, or what the device cannot compute, is unknown with the reason.
    """
    import torch

    torch.set_num_threads(thread_count)
    device = torch.device(device_name)
    timer = _Timer(device, clock)
    with torch.inference_mode():
        products = tuple(_measure_products(device, precision, timer) for precision in precisions)
        memory = _measure(partial(_measure_memory, device, timer))
        copies = [
            _measure(partial(_measure_copy, device, timer, to_device=to_device)) if timer.cuda else _NO_COPIES
            for to_device in (True, False)
        ]
        return Ceilings(
            device=device_name,
            threads=torch.get_num_threads(),
            matrix_products=products,
            memory_bytes_per_s=memory,
            to_device_bytes_per_s=copies[0],
            from_device_bytes_per_s=copies[1],
            launch_s=_measure(partial(_measure_launch, device, timer)),
        )


class _Timer:
    """Times calls on a device, which has done all its work before each reading of the clock."""

    def __init__(self, device: "torch.device", clock: Clock) -> None:
        import torch

        self.cuda: Any = torch.cuda if device.type == "cuda" else None
        self._device = device
        self._clock = clock
        self._is_warm = self.cuda is None

    def time(self, call: Callable[[], Any], count: int = 1) -> float:
        """Return how long (s) one of ``count`` calls takes."""
        self._synchronize()
        start_s = self._clock.now_s()
        for _ in range(count):
            call()
        self._synchronize()
        return (self._clock.now_s() - start_s) / count

    def best(self, call: Callable[[], Any]) -> float:
        """Return the shortest time (s) of a call, after it has run before on a device that is warm."""
        count = max(1, round(_SAMPLE_S / self._first(call)))
        samples_s: list[float] = []
        while len(samples_s) < _SAMPLES_MIN or count * sum(samples_s) < _BUDGET_S:
            samples_s.append(self.time(call, count))
        return min(samples_s)

    def _first(self, call: Callable[[], Any]) -> float:
        """Return about how long (s) a call takes."""
        self.time(call)
        start_s = self._clock.now_s()
        while not self._is_warm and self._clock.now_s() - start_s < _WARM_UP_S:
            self.time(call)
        self._is_warm = True
        return max(self.time(call), 1e-9)

    def _synchronize(self) -> None:
        if self.cuda:
            self.cuda.synchronize(self._device)


def _measure_products(device: "torch.device", precision: CeilingPrecision, timer: _Timer) -> MatrixProduct:
    """Return the fastest shape; of those that could run, where memory ended before others."""
    rates: dict[str, float] = {}
    problem: Unknown | None = None
    with _matmul_precision(precision):
        for shape in (_FIRST_SHAPE, *_SHAPES):
            flop = 2 * shape[0] * shape[1] * shape[2]
            if rates and flop / max(rates.values()) > _CALL_MAX_S:
                continue
            rate = _measure(partial(_measure_product, device, precision, shape, timer))
            if isinstance(rate, Unknown):
                problem = rate
                break
            rates["x".join(map(str, shape))] = rate.value
        channels, side = _CONVOLUTION
        if rates and _convolution_flop() / max(rates.values()) <= _CALL_MAX_S:
            rate = _measure(partial(_measure_convolution, device, precision, timer))
            name = f"{_KERNEL}x{_KERNEL} convolution, {channels} channels of {side}x{side}"
            rates |= {name: rate.value} if isinstance(rate, Known) else {}
    if not rates:
        return MatrixProduct(precision=precision, shape="none", flop_per_s=problem or _NO_MEMORY)
    fastest = max(rates, key=rates.__getitem__)
    return MatrixProduct(precision=precision, shape=fastest, flop_per_s=Known(value=rates[fastest]))


def _measure_product(
    device: "torch.device", precision: CeilingPrecision, shape: tuple[int, int, int], timer: _Timer
) -> float:
    """Return the FLOP/s of a matrix product of two dense matrices."""
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    rows, depth, columns = shape
    # Small random numbers: the power that a product draws, and so a GPU's clock, depends on them.
    left, right = (torch.randn(size, device=device).to(dtype) for size in ((rows, depth), (depth, columns)))
    out = torch.empty((rows, columns), device=device, dtype=dtype)
    multiply = partial(torch.matmul, left, right, out=out)
    return 2 * rows * depth * columns / timer.best(multiply)


def _convolution_flop() -> int:
    channels, side = _CONVOLUTION
    return 2 * (channels * _KERNEL * side) ** 2


def _measure_convolution(device: "torch.device", precision: CeilingPrecision, timer: _Timer) -> float:
    """Return the FLOP/s of a convolution."""
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    channels, side = _CONVOLUTION
    image, kernels = (
        torch.randn(size, device=device).to(dtype)
        for size in ((1, channels, side, side), (channels, channels, _KERNEL, _KERNEL))
    )
    return _convolution_flop() / timer.best(partial(torch.conv2d, image, kernels, padding=_KERNEL // 2))


def _measure_memory(device: "torch.device", timer: _Timer) -> float:
    """Return the bytes/s that the faster of a copy and a sum of two arrays reads and writes.

    Bytes are those of STREAM (McCalpin, 1995): a line that the CPU fetches to write into it does not count. Which of
    the two is the faster depends on that.
    """
    import torch

    first = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device).view(torch.float32)
    out = torch.empty_like(first)
    add = partial(torch.add, first, first.clone(), out=out)
    return max(2 * _COPIED_BYTES / timer.best(partial(out.copy_, first)), 3 * _COPIED_BYTES / timer.best(add))


def _measure_copy(device: "torch.device", timer: _Timer, *, to_device: bool) -> float:
    """Return the bytes/s between pinned host memory and the device."""
    import torch

    host = torch.ones(_COPIED_BYTES, dtype=torch.uint8).pin_memory()
    own = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target, source = (own, host) if to_device else (host, own)
    copy = partial(target.copy_, source, non_blocking=True)
    return _COPIED_BYTES / timer.best(copy)


def _measure_launch(device: "torch.device", timer: _Timer) -> float:
    """Return how long (s) a minimal operator takes among many: on a GPU they queue up."""
    import torch

    one = torch.ones(1, device=device)

    def launch_many() -> None:
        for _ in range(_LAUNCHES):
            one.neg_()

    return timer.best(launch_many) / _LAUNCHES


def _measure(measure: Callable[[], float]) -> Reading[float]:
    """Return a ceiling, or why there is none: memory ran out, or the device cannot do it."""
    import torch

    cuda: Any = torch.cuda
    try:
        return Known(value=measure())
    except (RuntimeError, MemoryError) as error:
        if where_memory_ran_out(error) is not None:
            return _NO_MEMORY
        return Unknown(reason=f"{type(error).__name__}: {' '.join(str(error).split())[:200] or 'no message'}")
    finally:
        if cuda.is_initialized():
            cuda.empty_cache()


@contextmanager
def _matmul_precision(precision: CeilingPrecision) -> Iterator[None]:
    """Let fp32 matrix products and convolutions on GPUs use TF32 or not."""
    import torch

    torch_backends: Any = torch.backends
    backends = torch_backends.cuda.matmul, torch_backends.cudnn.conv
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
