"""The phases of a call, and what the pipeline's own number of steps would take: a projection, never measured."""

from collections.abc import Sequence
from math import fsum
from statistics import median
from typing import NamedTuple

from sdbench.schema.metrics import PHASE_TOTAL_TOLERANCE, latency_s
from sdbench.schema.outcome import Launch
from sdbench.schema.record import PlannedExperiment
from sdbench.stats.intervals import Estimate, estimate_latency
from sdbench.units import format_count, format_duration

# Each text encoder of a pipeline by its name, as far as it has them.
ENCODERS = {"text_encoder": "text encoder", "text_encoder_2": "text encoder 2", "text_encoder_3": "text encoder 3"}
_SERIES = ("denoise_step", "vae_decode", "rest", "total")


class PhaseTimes(NamedTuple):
    """The seconds of one call by phase, each text encoder by its title, and of one denoising step (median)."""

    encoders_s: dict[str, float]
    denoise_s: float
    step_s: float
    vae_decode_s: float
    rest_s: float
    total_s: float

    @property
    def text_encode_s(self) -> float:
        """The seconds of all text encoders."""
        return fsum(self.encoders_s.values())

    @property
    def shares(self) -> dict[str, float]:
        """The title and share (ratio) of each phase, in the order in which they run."""
        own_s = {"denoising steps": self.denoise_s, "VAE decode": self.vae_decode_s, "rest": self.rest_s}
        durations_s = self.encoders_s | own_s
        whole_s = fsum(durations_s.values()) or 1.0
        return {title: part_s / whole_s for title, part_s in durations_s.items()}


def phases_of_launch(launch: Launch) -> PhaseTimes | None:
    """Return a launch's phases (s), or None if it has none."""
    series = [launch.find_series(f"phase.{name}") for name in _SERIES]
    samples_s = [one.steady for one in series if one is not None and one.steady]
    if len(samples_s) < len(_SERIES):
        return None
    steps_s, decode_s, rest_s, total_s = samples_s
    encoders = {title: launch.find_series(f"phase.{name}") for name, title in ENCODERS.items()}
    encoders_s = {title: one.steady[0] for title, one in encoders.items() if one is not None and one.steady}
    return PhaseTimes(encoders_s, fsum(steps_s), median(steps_s), decode_s[0], rest_s[0], total_s[0])


def median_phases(launches: Sequence[PhaseTimes]) -> PhaseTimes:
    """Return of each phase the median (s) over launches of one experiment."""
    encoders_s = {
        title: median(times.encoders_s.get(title, 0.0) for times in launches) for title in launches[0].encoders_s
    }
    whole = {name: median(getattr(times, name) for times in launches) for name in PhaseTimes._fields[1:]}
    return PhaseTimes(encoders_s, **whole)


class Projection(NamedTuple):
    """What a call of the native steps would take (s), of how many denoiser calls. Never measured.

    ``observed_ratio`` is the call with the phases over the timed calls, ``of_first_call`` whether it was the first one.
    """

    estimate: Estimate
    steps: int
    denoiser_calls: int
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
    """Return text encoders + denoiser calls x median step + VAE decode + rest, with its interval over launches.

    Each launch's sum is scaled by its timed calls over its observed call, which may be slower. None for experiments of
    the native steps or more, and for those without phases.
    """
    phased = [
        (launch, times, timed_s)
        for launch in counted
        if (times := phases_of_launch(launch)) and (timed_s := latency_s(launch))
    ]
    if not phased or planned.experiment.steps >= (steps := phased[0][0].environment.work.native_steps):
        return None
    calls = [launch.environment.work.denoiser_calls_at_native_steps for launch, _, _ in phased]
    values_s = [
        (times.text_encode_s + count * times.step_s + times.vae_decode_s + times.rest_s) * timed_s / times.total_s
        for count, (_, times, timed_s) in zip(calls, phased, strict=True)
        if times.total_s > 0
    ]
    if len(values_s) < len(phased) or min(values_s) <= 0:
        return None
    return Projection(
        estimate=estimate_latency([[value_s] for value_s in values_s], planned.protocol.confidence),
        steps=steps,
        denoiser_calls=calls[0],
        observed_ratio=median(times.total_s / timed_s for _, times, timed_s in phased),
        of_first_call=any(_is_of_first_call(launch) for launch, _, _ in phased),
    )


def describe_projection(planned: PlannedExperiment, counted: Sequence[Launch]) -> str:
    """Return in a sentence what a call of the native steps would take; empty where nothing is projected."""
    projection = project(planned, counted)
    if projection is None:
        return ""
    caveat = f"; {projection.caveat}" if projection.caveat else ""
    own, measured = (format_count(count, "step") for count in (projection.steps, planned.experiment.steps))
    duration = format_duration(projection.estimate.value)
    return f"At the pipeline's own {own} about {duration} a call: projected from {measured}, not measured{caveat}."


def _is_of_first_call(launch: Launch) -> bool:
    latency = launch.find_series("latency")
    return latency is not None and latency.warmup_count <= 1
