"""Quality checks: each reason not to trust a result, checked, with the evidence.

A warning does not change a result; it is shown with the result and with every comparison.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import exp, log, sqrt
from statistics import fmean, median
from typing import NamedTuple

from sdbench.compare.machine_speed import SPEED_MAX, check_speed
from sdbench.compare.policy import UNITS_MIN
from sdbench.probes.clocks_and_load import BUSY_RATIO
from sdbench.probes.gpu import COMPUTING_RATIO
from sdbench.probes.readings import value_or
from sdbench.probes.telemetry import MEMORY_PRESSURE_MAX_RATIO, STEAL_MAX_RATIO
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.metrics import launches_that_count, steady_latencies_s
from sdbench.schema.outcome import (
    AnyOutcome,
    QualityCheck,
    QualityCheckName,
    QualityVerdict,
    Succeeded,
    measuring_launches,
    was_throttled,
)
from sdbench.schema.record import Result
from sdbench.stats.moments import deviation
from sdbench.stats.order_statistics import smallest_rank_test_p
from sdbench.stats.shape import VALUES_FOR_DRIFT, VALUES_FOR_MODES, find_drift, find_modes
from sdbench.stats.student import t_upper_tail

# Half the usual margin of 2 %: a smaller effect cannot change a verdict.
_EFFECT_MIN = 0.01
_CLOCK_SPREAD_MAX = 0.05
_DRIFT_P = 0.01
_WARM_UP_P = 0.01
_CALLS_FOR_WARM_UP = 3

_VERDICTS: dict[bool | None, QualityVerdict] = {True: "passed", False: "warned", None: "not checked"}
# Whether a result passes, None where that is unknown, and the evidence.
_Observation = tuple[bool | None, str]


class _Check(NamedTuple):
    """A check: what observes a result, the threshold, and where the threshold comes from."""

    name: QualityCheckName
    observe: Callable[[Succeeded], _Observation]
    threshold: str
    source: str

    def make(self, outcome: Succeeded) -> QualityCheck:
        passed, evidence = self.observe(outcome)
        verdict = _VERDICTS[passed]
        return QualityCheck(
            name=self.name, verdict=verdict, evidence=evidence, threshold=self.threshold, source=self.source
        )


def check_quality(outcome: AnyOutcome) -> tuple[QualityCheck, ...]:
    """Return every check of a result that was timed; nothing for one that was not."""
    if not isinstance(outcome, Succeeded) or not timed_calls_s(outcome):
        return ()
    return tuple(check.make(outcome) for check in _CHECKS)


def quality_checks_of(result: Result) -> tuple[QualityCheck, ...]:
    """Return a result's checks: those in the record, or made now for a record without them."""
    return result.quality_checks or check_quality(result.outcome)


def failed_checks(quality_checks: Sequence[QualityCheck]) -> tuple[QualityCheck, ...]:
    """Return the checks that warned."""
    return tuple(check for check in quality_checks if check.verdict == "warned")


def timed_calls_s(outcome: AnyOutcome) -> list[tuple[float, ...]]:
    """Return the steady calls (s) of each launch that counts and was timed."""
    return [steady for launch in launches_that_count(outcome) if (steady := steady_latencies_s(launch))]


def _throttled(outcome: Succeeded) -> _Observation:
    launches = measuring_launches(outcome.launches)
    slowed = [launch for launch in launches if was_throttled(launch)]
    counted = launches_that_count(outcome)
    readings = [launch.conditions.throttle_shares for launch in launches]
    known = [reading.value for reading in readings if isinstance(reading, Known)]
    if not known and not slowed:
        return None, _why_unknown(readings)
    shares: dict[str, float] = {}
    for share in chain.from_iterable(known):
        shares[share.reason] = max(share.ratio, shares.get(share.reason, 0.0))
    reasons = ", ".join(f"{reason} in up to {ratio:.0%} of the time" for reason, ratio in shares.items())
    evidence = f"{len(slowed)} of {len(launches)} launches throttled" + (f" ({reasons})" if reasons else "")
    if slowed and len(counted) < len(launches):
        evidence += "; they are kept, fresh ones count instead"
    return not any(map(was_throttled, counted)), evidence


def _conditions(outcome: Succeeded, limits: Mapping[str, tuple[str, float]]) -> _Observation:
    """The worst launch's readings against their limits; unknown only where none of them could be read."""
    launches = launches_that_count(outcome)
    known, unknown, passed = [], [], True
    for field, (title, limit) in limits.items():
        readings: list[Reading[float]] = [getattr(launch.conditions, field) for launch in launches]
        values = [reading.value for reading in readings if isinstance(reading, Known)]
        if values:
            known.append(f"{title} {max(values):.1%}")
            passed = passed and max(values) <= limit
        else:
            unknown.append(f"{title} unknown ({_why_unknown(readings)})")
    return passed if known else None, ", ".join([*known, *unknown])


def _foreign(outcome: Succeeded) -> _Observation:
    conditions = [launch.conditions for launch in launches_that_count(outcome)]
    readings = [each.foreign_gpu_process_count for each in conditions]
    counts = [reading.value for reading in readings if isinstance(reading, Known)]
    if not counts:
        return None, _why_unknown(readings)
    resident = max(value_or(each.resident_gpu_process_count, 0) for each in conditions)
    return max(counts) == 0, f"at most {max(counts)} computed in a launch, {resident} were on the GPU without computing"


def _warm_up(outcome: Succeeded) -> _Observation:
    launches = [calls for calls in timed_calls_s(outcome) if len(calls) >= _CALLS_FOR_WARM_UP]
    if not launches:
        return None, f"no launch has {_CALLS_FOR_WARM_UP} timed calls"
    ratio = median(calls[0] / median(calls[1:]) for calls in launches)
    p_value = _p_of_slow_start(launches)
    evidence = f"the first timed call took {ratio:.3f} times the median of the others (p = {p_value:.2g})"
    return ratio <= 1 + _EFFECT_MIN or p_value >= _WARM_UP_P, evidence


def _p_of_slow_start(launches: Sequence[tuple[float, ...]]) -> float:
    """The p of "the first call is no slower": over launches, or where there is one against its other calls."""
    excess = [log(calls[0]) - fmean(map(log, calls[1:])) for calls in launches]
    if len(excess) > 1:
        error, freedom = deviation(excess) / sqrt(len(excess)), len(excess) - 1
    else:
        others = [log(call) for call in launches[0][1:]]
        error, freedom = deviation(others) * sqrt(1 + 1 / len(others)), len(others) - 1
    return t_upper_tail(freedom, fmean(excess) / error) if error else float(fmean(excess) <= 0)


def _launches(outcome: Succeeded) -> _Observation:
    count = len(timed_calls_s(outcome))
    p_value = smallest_rank_test_p(count, count)
    evidence = (
        f"{count} launch{'' if count == 1 else 'es'}: too few for a rank test, whose p would be at least {p_value:.2g}"
    )
    return count >= UNITS_MIN, evidence


def _modes(outcome: Succeeded) -> _Observation:
    launches = timed_calls_s(outcome)
    between = [log(median(calls)) for calls in launches]
    within = [log(call / median(calls)) for calls in launches for call in calls]
    levels = {"launches": find_modes(between), "calls": find_modes(within)}
    known = {level: modes for level, modes in levels.items() if modes is not None}
    if not known:
        return None, f"fewer than {VALUES_FOR_MODES} launches and calls"
    evidence = ", ".join(
        f"{level}: groups {exp(modes.gap) - 1:.1%} apart explain {modes.share:.0%} of the variance "
        f"(chance: {modes.critical_share:.0%})"
        for level, modes in known.items()
    )
    return not any(modes.are_two and modes.gap >= _EFFECT_MIN for modes in known.values()), evidence


def _drift(outcome: Succeeded) -> _Observation:
    drift = find_drift([log(median(calls)) for calls in timed_calls_s(outcome)])
    if drift is None:
        return None, f"fewer than {VALUES_FOR_DRIFT} launches"
    evidence = f"{exp(drift.rise) - 1:+.1%} from the first launch to the last (p = {drift.p_value:.2g})"
    return drift.p_value >= _DRIFT_P or abs(drift.rise) < _EFFECT_MIN, evidence


def _finite(outcome: Succeeded) -> _Observation:
    images = [image for launch in measuring_launches(outcome.launches) for image in launch.images]
    finite, constant = sum(image.finite for image in images), sum(image.constant for image in images)
    passed = finite == len(images) and not constant if images else None
    return passed, f"{finite} of {len(images)} images finite" + (f", {constant} constant" if constant else "")


def _output(outcome: Succeeded) -> _Observation:
    outputs = {tuple(image.sha256 for image in launch.images) for launch in measuring_launches(outcome.launches)}
    is_one = len(outputs) == 1
    return is_one, "the same pixels in every launch" if is_one else f"{len(outputs)} different outputs"


def _why_unknown(readings: Sequence[Reading[int] | Reading[float] | object]) -> str:
    return next((reading.reason for reading in readings if isinstance(reading, Unknown)), "nothing was read")


_OWN = "sdbench: an effect below half the margin of 2 % cannot change a verdict"
_CLOCK = {"clock_spread_ratio": ("spread of the device's clock", _CLOCK_SPREAD_MAX)}
_LOAD = {
    "others_cpu_ratio": ("CPUs kept busy by others", BUSY_RATIO),
    "steal_ratio": ("stolen by the hypervisor", STEAL_MAX_RATIO),
    "memory_pressure_ratio": ("waiting for memory", MEMORY_PRESSURE_MAX_RATIO),
}
_CHECKS = (
    _Check(
        "throttled",
        _throttled,
        "no counted launch throttled by heat or a hardware slowdown",
        "nvbench discards throttled samples; here the launch is run again, kept and counted",
    ),
    _Check(
        "clocks",
        partial(_conditions, limits=_CLOCK),
        f"10th to 90th percentile within {_CLOCK_SPREAD_MAX:.0%} of the median",
        "sdbench: latency follows the clock",
    ),
    _Check(
        "other load",
        partial(_conditions, limits=_LOAD),
        f"at most {BUSY_RATIO:.0%}, {STEAL_MAX_RATIO:.0%} and {MEMORY_PRESSURE_MAX_RATIO:.0%} in any launch",
        "sdbench: shares that can move a result by half the margin of 2 %; the kernel's PSI, /proc/stat",
    ),
    _Check(
        "machine speed",
        lambda outcome: check_speed(launches_that_count(outcome)),
        f"a reference operation within {SPEED_MAX:.0%} of its median over the launches, or off by its own noise",
        "sdbench: one of 8 launches that far off moves their mean by half the margin of 2 %",
    ),
    _Check(
        "foreign GPU processes",
        _foreign,
        f"none on more than {COMPUTING_RATIO:.0%} of the SMs",
        "NVML's utilization of each process; of older drivers, processes that compute and do not draw",
    ),
    _Check(
        "warm-up",
        _warm_up,
        f"the first timed call within {_EFFECT_MIN:.0%} of the others in the median over launches, or by chance",
        _OWN,
    ),
    _Check(
        "launches",
        _launches,
        f"at least {UNITS_MIN}",
        "exact distribution of Mann and Whitney's U; two modes taken for two systems in 0.05 % at 6 each",
    ),
    _Check(
        "modes",
        _modes,
        f"no split that chance gives in under 1 %, with the modes {_EFFECT_MIN:.0%} apart or more",
        "share of variance between two groups, simulated for normal values",
    ),
    _Check(
        "drift",
        _drift,
        f"no slope over the launches with p below {_DRIFT_P} and a rise of {_EFFECT_MIN:.0%} or more",
        _OWN,
    ),
    _Check(
        "finite",
        _finite,
        "every image finite, and none constant",
        "the decoder's output before it is clamped to pixels; diffusers makes a black image of NaN",
    ),
    _Check("output", _output, "one output", "SHA-256 of the pixels: the same seed gives the same image"),
)
