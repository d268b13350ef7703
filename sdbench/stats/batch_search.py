"""Which batch to try next in the search for the largest one that fits, and when the answer is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import floor
from statistics import linear_regression

# Between two measured peaks the memory of a batch is near a line: weights and workspace, and so much for each image.
_POINTS_FOR_A_LINE = 2
# The most probes a search should need where memory is near a line; doubling and bisection takes up to 16 to batch 256.
PROBES_AIM = 8
# A probe runs no more denoising steps: PNDM keeps the UNet's last four outputs, and further steps hold no more memory.
PROBE_STEPS = 5
# 1, 4, 16, ... away from a prediction: simulated, 2 wastes probes on noise of 5 %, 8 overshoots on exact lines.
_STEP_FACTOR = 4


@dataclass(frozen=True)
class Tried:
    """A batch that was tried: its memory peak (bytes) where it fitted and was measured."""

    batch: int
    fits: bool
    peak_bytes: float | None


def find_bracket(tried: Sequence[Tried], batch_max: int) -> tuple[int, int]:
    """Return the largest batch known to fit (0: none) and the smallest known, or not allowed, not to fit.

    A batch that did not fit wins over the same batch that fitted earlier, and over larger ones that did.
    """
    too_large = min((item.batch for item in tried if not item.fits), default=batch_max + 1)
    fitting = max((item.batch for item in tried if item.fits and item.batch < too_large), default=0)
    return fitting, too_large


def choose_next_batch(
    tried: Sequence[Tried], limit_bytes: float, loaded_bytes: float | None, batch_max: int
) -> int | None:
    """Return the batch to try next, or None when the largest that fits is known.

    One image is tried first. From then on a line through the measured peaks (at first from what the loaded model takes)
    predicts where ``limit_bytes`` is reached: that batch is tried, then its neighbour. While predictions fail in the
    same direction, the steps away from them grow. Enough of ``PROBES_AIM`` is kept to finish by bisection, so that the
    search ends however the memory behaves.

    Args:
        tried: the batches tried so far, in order.
        limit_bytes: the available memory.
        loaded_bytes: the memory in use before the first image, if known.
        batch_max: the largest batch to consider.
    """
    fitting, too_large = find_bracket(tried, batch_max)
    if too_large - fitting <= 1:
        return None
    if fitting == 0:
        return 1
    predicted = _predict(tried, limit_bytes, loaded_bytes, below=too_large)
    if predicted is None:
        chosen = min(2 * fitting, batch_max)
    else:
        fits = tried[-1].fits
        in_a_row = sum(1 for _ in takewhile(lambda item: item.fits == fits, reversed(tried)))
        step = _STEP_FACTOR ** max(0, in_a_row - (2 if fits else 1))
        chosen = max(predicted, fitting + step) if fits else min(predicted, too_large - step)
    reach = 2 ** max(0, PROBES_AIM - len(tried) - 1)
    if too_large - fitting <= 2 * reach:
        chosen = min(max(chosen, too_large - reach), fitting + reach)
    elif len(tried) >= PROBES_AIM:
        chosen = (fitting + too_large) // 2
    return min(max(chosen, fitting + 1), too_large - 1)


def _predict(tried: Sequence[Tried], limit_bytes: float, loaded_bytes: float | None, below: int) -> int | None:
    """The batch at which the least-squares line of the peaks reaches the limit; None without a rising line."""
    peaks = {item.batch: item.peak_bytes for item in tried if item.fits and item.peak_bytes and item.batch < below}
    if len(peaks) == 1 and loaded_bytes is not None:
        peaks[0] = loaded_bytes
    if len(peaks) < _POINTS_FOR_A_LINE:
        return None
    slope, intercept = linear_regression(list(peaks), list(peaks.values()))
    return floor((limit_bytes - intercept) / slope) if slope > 0 else None
