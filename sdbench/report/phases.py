"""Where the time of a call goes, and what 50 steps would take: computed from calls of their own, not the timed ones."""

from dataclasses import dataclass
from statistics import fmean, median

from sdbench.report.points import Measured
from sdbench.schema.outcome import Launch
from sdbench.stats.intervals import Estimate, estimate_latency

PROJECTED_STEPS = 50
PHASE_TITLES = {
    "text_encode": "text encode",
    "denoise": "denoising steps",
    "vae_decode": "VAE decode",
    "rest": "rest",
}


@dataclass(frozen=True)
class PhaseTimes:
    """The seconds of one call by phase, and of one denoising step (median)."""

    text_encode_s: float
    denoise_s: float
    step_s: float
    vae_decode_s: float
    rest_s: float
    total_s: float

    @property
    def by_phase(self) -> tuple[tuple[str, float], ...]:
        """The title and duration (s) of each phase, in the order in which they run."""
        durations_s = (self.text_encode_s, self.denoise_s, self.vae_decode_s, self.rest_s)
        return tuple(zip(PHASE_TITLES.values(), durations_s, strict=True))


def phases_of_launch(launch: Launch) -> PhaseTimes | None:
    """Return a launch's phases (s), means over its phase calls, or None if it has none."""
    totals_s = _steady(launch, "phase.total")
    steps_s = _steady(launch, "phase.denoise_step")
    others = [_steady(launch, f"phase.{name}") for name in ("text_encode", "vae_decode", "rest")]
    if not totals_s or not steps_s or not all(others):
        return None
    text_s, decode_s, rest_s = (fmean(samples) for samples in others)
    return PhaseTimes(
        text_encode_s=text_s,
        denoise_s=sum(steps_s) / len(totals_s),
        step_s=median(steps_s),
        vae_decode_s=decode_s,
        rest_s=rest_s,
        total_s=fmean(totals_s),
    )


def phases_of(measured: Measured) -> PhaseTimes | None:
    """Return the phases (s) of an experiment: of each figure the median over its counted launches."""
    launches = [times for launch in measured.point.counted if (times := phases_of_launch(launch))]
    if not launches:
        return None
    return PhaseTimes(
        **{name: median(getattr(times, name) for times in launches) for name in PhaseTimes.__annotations__}
    )


@dataclass(frozen=True)
class Projection:
    """What a call of 50 steps would take (s), from how many UNet calls. Never measured."""

    estimate: Estimate
    unet_calls: int


def project(measured: Measured) -> Projection | None:
    """Return text encode + UNet calls of 50 steps x median step + VAE decode + rest, per launch, with its interval.

    None for experiments of 50 steps or more, and for those without phases.
    """
    point = measured.point
    if point.experiment.steps >= PROJECTED_STEPS:
        return None
    pairs = [(times, launch) for launch in point.counted if (times := phases_of_launch(launch))]
    values_s = [
        times.text_encode_s
        + launch.environment.unet_calls_at_50_steps * times.step_s
        + times.vae_decode_s
        + times.rest_s
        for times, launch in pairs
    ]
    if not values_s or min(values_s) <= 0:
        return None
    estimate = estimate_latency([[value_s] for value_s in values_s], point.planned.protocol.confidence)
    return Projection(estimate=estimate, unet_calls=pairs[0][1].environment.unet_calls_at_50_steps)


def _steady(launch: Launch, name: str) -> tuple[float, ...]:
    series = launch.find_series(name)
    return series.steady if series else ()
