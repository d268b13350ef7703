"""How far a result can be trusted: each reason to doubt it, looked into, with the evidence.

A doubt does not change a figure. It stands beside it, and a comparison says so.
"""

from collections.abc import Callable, Sequence
from math import exp, log, sqrt
from statistics import median

from sdbench.compare.verdicts import UNITS_MIN
from sdbench.probes.telemetry import MEMORY_PRESSURE_MAX_RATIO, OTHERS_MAX_RATIO, STEAL_MAX_RATIO
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import (
    AnyOutcome,
    Conditions,
    Launch,
    Succeeded,
    TrustCheck,
    TrustName,
    counted_launches,
    measuring_launches,
    was_throttled,
)
from sdbench.schema.record import Result
from sdbench.stats.moments import deviation, mean
from sdbench.stats.order_statistics import smallest_rank_test_p
from sdbench.stats.shape import VALUES_FOR_DRIFT, VALUES_FOR_MODES, find_drift, find_modes
from sdbench.stats.student import t_upper_tail

# Half the usual margin of 2 %: what moves a figure less cannot turn a verdict.
_EFFECT_MIN = 0.01
_CLOCK_SPREAD_MAX = 0.05
_DRIFT_P = 0.01
_WARM_UP_P = 0.01
_CALLS_FOR_WARM_UP = 3

_OWN = "sdbench: half the margin of 2 % cannot turn a verdict"


def check_trust(outcome: AnyOutcome) -> tuple[TrustCheck, ...]:
    """Return every check of a result that was timed; nothing for one that was not."""
    if not isinstance(outcome, Succeeded) or not _latencies(counted_launches(outcome.launches)):
        return ()
    return tuple(check(outcome) for check in _CHECKS)


def trust_of(result: Result) -> tuple[TrustCheck, ...]:
    """Return a result's checks: those in the record, or made now for one that is older than they are."""
    return result.trust or check_trust(result.outcome)


def doubts(trust: Sequence[TrustCheck]) -> tuple[TrustCheck, ...]:
    """Return the checks that found a reason to doubt."""
    return tuple(check for check in trust if check.verdict == "doubtful")


def _latencies(launches: Sequence[Launch]) -> list[tuple[float, ...]]:
    """The steady samples of each launch; none of a launch whose clock gave one that is not positive."""
    found = (launch.find_series("latency") for launch in launches)
    return [series.steady for series in found if series and min(series.steady, default=0) > 0]


def _check(name: TrustName, good: bool | None, evidence: str, threshold: str, source: str) -> TrustCheck:
    verdict = "unknown" if good is None else "good" if good else "doubtful"
    return TrustCheck.model_validate(
        {"name": name, "verdict": verdict, "evidence": evidence, "threshold": threshold, "source": source}
    )


def _throttled(outcome: Succeeded) -> TrustCheck:
    launches = measuring_launches(outcome.launches)
    slowed = [launch for launch in launches if was_throttled(launch)]
    counted = counted_launches(outcome.launches)
    threshold = "no counted launch throttled by heat or a hardware slowdown"
    source = "nvbench discards throttled samples; here the launch is run again, kept and counted"
    readings = [launch.conditions.throttle_shares for launch in launches]
    known = [reading.value for reading in readings if isinstance(reading, Known)]
    if not known and not slowed:
        return _check("throttled", None, _why_unknown(readings), threshold, source)
    shares: dict[str, float] = {}
    for reason, ratio in ((share.reason, share.ratio) for launch in known for share in launch):
        shares[reason] = max(ratio, shares.get(reason, 0.0))
    seen = ", ".join(f"{reason} in up to {ratio:.0%} of the samples" for reason, ratio in shares.items())
    evidence = f"{len(slowed)} of {len(launches)} launches throttled" + (f" ({seen})" if seen else "")
    if slowed and len(counted) < len(launches):
        evidence += "; they are kept, fresh ones count instead"
    return _check("throttled", not any(was_throttled(launch) for launch in counted), evidence, threshold, source)


def _from_conditions(
    outcome: Succeeded,
    name: TrustName,
    limits: Sequence[tuple[Callable[[Conditions], Reading[float]], str, float]],
    threshold: str,
    source: str,
) -> TrustCheck:
    """The worst launch's readings against their limits; unknown only where none of them could be read."""
    launches = counted_launches(outcome.launches)
    found, unread, good = [], [], True
    for read, what, limit in limits:
        readings = [read(launch.conditions) for launch in launches]
        values = [reading.value for reading in readings if isinstance(reading, Known)]
        if values:
            found.append(f"{what} {max(values):.1%}")
            good = good and max(values) <= limit
        else:
            unread.append(f"{what} unknown ({_why_unknown(readings)})")
    return _check(name, good if found else None, ", ".join([*found, *unread]), threshold, source)


def _clocks(outcome: Succeeded) -> TrustCheck:
    return _from_conditions(
        outcome,
        "clocks",
        [(lambda seen: seen.clock_spread_ratio, "spread of the device's clock", _CLOCK_SPREAD_MAX)],
        f"10th to 90th percentile within {_CLOCK_SPREAD_MAX:.0%} of the median",
        "sdbench: latency follows the clock, and idle samples at both ends of a launch take up some of it",
    )


def _other_load(outcome: Succeeded) -> TrustCheck:
    return _from_conditions(
        outcome,
        "other load",
        [
            (lambda seen: seen.others_cpu_ratio, "CPUs kept busy by others", OTHERS_MAX_RATIO),
            (lambda seen: seen.steal_ratio, "stolen by the hypervisor", STEAL_MAX_RATIO),
            (lambda seen: seen.memory_pressure_ratio, "waiting for memory", MEMORY_PRESSURE_MAX_RATIO),
        ],
        f"at most {OTHERS_MAX_RATIO:.0%}, {STEAL_MAX_RATIO:.0%} and {MEMORY_PRESSURE_MAX_RATIO:.0%} in any launch",
        "sdbench: shares that can move a figure by half the margin of 2 %; the kernel's PSI, /proc/stat",
    )


def _foreign(outcome: Succeeded) -> TrustCheck:
    readings = [launch.conditions.foreign_gpu_process_count for launch in counted_launches(outcome.launches)]
    counts = [reading.value for reading in readings if isinstance(reading, Known)]
    evidence = f"at most {max(counts)} at once" if counts else _why_unknown(readings)
    good = max(counts) == 0 if counts else None
    return _check("foreign GPU processes", good, evidence, "none", "NVML's list of compute processes")


def _warm_up(outcome: Succeeded) -> TrustCheck:
    threshold = f"the first timed call within {_EFFECT_MIN:.0%} of the others in the median over launches, or by chance"
    launches = [calls for calls in _latencies(counted_launches(outcome.launches)) if len(calls) >= _CALLS_FOR_WARM_UP]
    if not launches:
        evidence = f"no launch has {_CALLS_FOR_WARM_UP} timed calls"
        return _check("warm-up", None, evidence, threshold, _OWN)
    ratio = median(calls[0] / median(calls[1:]) for calls in launches)
    p_value = _p_of_slow_start(launches)
    told = "" if p_value is None else f" (p = {p_value:.2g})"
    evidence = f"the first timed call took {ratio:.3f} times the median of the others{told}"
    good = ratio <= 1 + _EFFECT_MIN or (None if p_value is None else p_value >= _WARM_UP_P)
    return _check("warm-up", good, evidence, threshold, _OWN)


def _p_of_slow_start(launches: Sequence[tuple[float, ...]]) -> float | None:
    """The p of "the first call is like the others": over launches, or where there is one against its other calls."""
    excess = [log(calls[0]) - mean(map(log, calls[1:])) for calls in launches]
    if len(excess) > 1:
        error, freedom = deviation(excess) / sqrt(len(excess)), len(excess) - 1
    else:
        others = [log(call) for call in launches[0][1:]]
        error, freedom = deviation(others) * sqrt(1 + 1 / len(others)), len(others) - 1
    return t_upper_tail(freedom, mean(excess) / error) if error else float(mean(excess) <= 0)


def _launches(outcome: Succeeded) -> TrustCheck:
    count = len(_latencies(counted_launches(outcome.launches)))
    p_value = smallest_rank_test_p(count, count)
    evidence = f"{count} launch{'es' * (count != 1)}: no rank test against as many gives p below {p_value:.2g}"
    source = "exact distribution of Mann and Whitney's U; two modes taken for two systems in 0.05 % at 6 a side"
    return _check("launches", count >= UNITS_MIN, evidence, f"at least {UNITS_MIN}", source)


def _modes(outcome: Succeeded) -> TrustCheck:
    launches = _latencies(counted_launches(outcome.launches))
    threshold = f"no split that chance gives in under 1 %, with the modes {_EFFECT_MIN:.0%} apart or more"
    source = "share of variance between two groups, simulated for normal values"
    between = [log(median(calls)) for calls in launches]
    within = [log(call / median(calls)) for calls in launches for call in calls]
    levels = {"launches": find_modes(between), "calls": find_modes(within)}
    known = {level: modes for level, modes in levels.items() if modes is not None}
    if not known:
        evidence = f"fewer than {VALUES_FOR_MODES} launches and calls"
        return _check("modes", None, evidence, threshold, source)
    evidence = ", ".join(
        f"{level}: groups {exp(modes.gap) - 1:.1%} apart hold {modes.share:.0%} of the variance "
        f"(chance: {modes.critical_share:.0%})"
        for level, modes in known.items()
    )
    good = not any(modes.are_two and modes.gap >= _EFFECT_MIN for modes in known.values())
    return _check("modes", good, evidence, threshold, source)


def _drift(outcome: Succeeded) -> TrustCheck:
    launches = counted_launches(outcome.launches)
    found = find_drift([log(median(calls)) for calls in _latencies(launches)])
    threshold = f"no slope over the launches with p below {_DRIFT_P} and a rise of {_EFFECT_MIN:.0%} or more"
    if found is None:
        return _check("drift", None, f"fewer than {VALUES_FOR_DRIFT} launches", threshold, _OWN)
    evidence = f"{exp(found.rise) - 1:+.1%} from the first launch to the last (p = {found.p_value:.2g})"
    good = found.p_value >= _DRIFT_P or abs(found.rise) < _EFFECT_MIN
    return _check("drift", good, evidence, threshold, _OWN)


def _finite(outcome: Succeeded) -> TrustCheck:
    finite = [image.finite for launch in measuring_launches(outcome.launches) for image in launch.images]
    evidence = f"{sum(finite)} of {len(finite)} images finite"
    threshold, source = "every image finite", "the decoder's output before it is clamped to pixels"
    return _check("finite", all(finite) if finite else None, evidence, threshold, source)


def _output(outcome: Succeeded) -> TrustCheck:
    outputs = {tuple(image.sha256 for image in launch.images) for launch in measuring_launches(outcome.launches)}
    evidence = "the same pixels in every launch" if len(outputs) == 1 else f"{len(outputs)} different outputs"
    threshold, source = "one output", "SHA-256 of the pixels: the same seed gives the same picture"
    return _check("output", len(outputs) == 1, evidence, threshold, source)


def _why_unknown(readings: Sequence[Reading[int] | Reading[float] | object]) -> str:
    return next((reading.reason for reading in readings if isinstance(reading, Unknown)), "nothing was read")


_CHECKS: tuple[Callable[[Succeeded], TrustCheck], ...] = (
    _throttled,
    _clocks,
    _other_load,
    _foreign,
    _warm_up,
    _launches,
    _modes,
    _drift,
    _finite,
    _output,
)
