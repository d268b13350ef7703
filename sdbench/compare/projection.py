"""The phases of a call, and what a call of 50 steps would take: a projection, never measured."""

from collections.abc import Sequence
from math import fsum
from statistics import median
from typing import NamedTuple

from sdbench.schema.experiment import PROJECTED_STEPS
from sdbench.schema.metrics import PHASE_TOTAL_TOLERANCE, latency_s
from sdbench.schema.outcome import Launch
from sdbench.schema.record import PlannedExperiment
from sdbench.stats.intervals import Estimate, estimate_latency

PHASE_TITLES = ("text encode", "denoising steps", "VAE decode", "rest")
_SERIES = ("text_encode", "denoise_step", "vae_decode", "rest", "total")


class PhaseTimes(NamedTuple):
    """The seconds of one call by phase, and of one denoising step (median)."""

    text_encode_s: float
    denoise_s: float
    step_s: float
    vae_decode_s: float
    rest_s: float
    total_s: float

    @property
    def shares(self) -> dict[str, float]:
        """The title and share (ratio) of each phase, in the order in which they run."""
        durations_s = (self.text_encode_s, self.denoise_s, self.vae_decode_s, self.rest_s)
        whole_s = fsum(durations_s) or 1.0
        return {title: part_s / whole_s for title, part_s in zip(PHASE_TITLES, durations_s, strict=True)}


def phases_of_launch(launch: Launch) -> PhaseTimes | None:
    """Return a launch's phases (s), or None if it has none."""
    series = [launch.find_series(f"phase.{name}") for name in _SERIES]
    samples_s = [one.steady for one in series if one is not None and one.steady]
    if len(samples_s) < len(_SERIES):
        return None
    text_s, steps_s, decode_s, rest_s, total_s = samples_s
    return PhaseTimes(text_s[0], fsum(steps_s), median(steps_s), decode_s[0], rest_s[0], total_s[0])


class Projection(NamedTuple):
    """What a call of 50 steps would take (s), from how many UNet calls. Never measured.

    ``observed_ratio`` is the call with the phases over the timed calls, ``of_first_call`` whether it was the first one.
    """

    estimate: Estimate
    unet_calls: int
    observed_ratio: float
    of_first_call: bool

    @property
    def caveat(self) -> str | None:
        """Why the projection is rougher than its interval says, or None."""
        if not self.of_first_call and abs(self.observed_ratio - 1) <= PHASE_TOTAL_TOLERANCE:
            return None
        call = "the first call" if self.of_first_call else "a call"
        return f"scaled from the phases of {call}, which took {self.observed_ratio:.2f} times a timed one"


def project(planned: PlannedExperiment, counted: Sequence[Launch]) -> Projection | None:
    """Return text encode + UNet calls of 50 steps x median step + VAE decode + rest, with its interval over launches.

    Each launch's sum is scaled by its timed calls over its observed call, which may be slower. None for experiments of
    50 steps or more, and for those without phases.
    """
    phased = [
        (launch, times, timed_s)
        for launch in counted
        if (times := phases_of_launch(launch)) and (timed_s := latency_s(launch))
    ]
    if planned.experiment.steps >= PROJECTED_STEPS or not phased:
        return None
    calls = [launch.environment.unet_calls_at_50_steps for launch, _, _ in phased]
    values_s = [
        (times.text_encode_s + count * times.step_s + times.vae_decode_s + times.rest_s) * timed_s / times.total_s
        for count, (_, times, timed_s) in zip(calls, phased, strict=True)
        if times.total_s > 0
    ]
    if len(values_s) < len(phased) or min(values_s) <= 0:
        return None
    return Projection(
        estimate=estimate_latency([[value_s] for value_s in values_s], planned.protocol.confidence),
        unet_calls=calls[0],
        observed_ratio=median(times.total_s / timed_s for _, times, timed_s in phased),
        of_first_call=any(_is_of_first_call(launch) for launch, _, _ in phased),
    )


def _is_of_first_call(launch: Launch) -> bool:
    latency = launch.find_series("latency")
    return latency is not None and latency.warmup_count <= 1
