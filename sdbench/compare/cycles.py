"""The same change in cycles of the device's clock: whether the code became slower, or the clock (ADR 19).

nvbench reports a slowdown only where clock cycles confirm it. Here the verdict stays that of the seconds, which users
wait for, and the cycles give its reason.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean

from sdbench.compare.levels import Level, Sampled, time_launches
from sdbench.compare.policy import ALPHA, Cycles, Judgement, decide, p_changed
from sdbench.schema.base import Known, Reading
from sdbench.schema.metrics import is_on_gpu, latency_s
from sdbench.schema.outcome import Launch
from sdbench.stats.ratios import LogRatio

_HZ_PER_MHZ = 1e6
# Two memory clocks or power limits that differ by less are readings of the same setting.
_SAME_RATIO = 0.01


@dataclass(frozen=True)
class CycleEvidence:
    """The ratio of latencies in cycles, the clocks of baseline and candidate (MHz), and what set them if known."""

    ratio: LogRatio
    level: Level
    clocks_mhz: tuple[float, float]
    set_by: tuple[str, ...]

    def describe(self, seconds: LogRatio, margin: float, *, changed: bool) -> Cycles:
        """Return the ratio in cycles and how much of the change in seconds it leaves; none where nothing changed.

        All of the change is the clock's where the cycles are shown to be the same within the margin, or where their
        interval holds no change and does not hold the change in seconds. A change of the code moves both by as much.
        """
        low, high = self.ratio.interval(1 - ALPHA)
        verdict = decide(self.ratio, margin, p_changed(self.ratio, margin, self.level))
        agrees = low <= seconds.value <= high
        is_all = verdict == "same" or (low <= 1 <= high and not agrees)
        return Cycles(
            ratio=self.ratio.value,
            low=low,
            high=high,
            clocks_mhz=self.clocks_mhz,
            explained="none" if not changed or (agrees and not is_all) else "all" if is_all else "part",
            set_by=self.set_by,
        )


def weigh_cycles(
    seconds: tuple[Sequence[Sampled], Sequence[Sampled]],
    weigh_values: Callable[[Sequence[Sampled], Sequence[Sampled]], tuple[LogRatio | None, Level | None]],
) -> CycleEvidence | None:
    """Return the evidence in cycles of what was weighed in seconds, by the same rule; None where a clock is unknown."""
    first, second = (
        [Sampled(item.record, time_launches(item.launches, read_cycles)) for item in items] for items in seconds
    )
    # A launch whose clock is unknown would leave the two ratios of different launches.
    if any(
        len(timed.values) != len(clocked.values)
        for timed, clocked in zip((*seconds[0], *seconds[1]), (*first, *second), strict=True)
    ):
        return None
    ratio, level = weigh_values(first, second)
    if ratio is None or level is None:
        return None
    clocks = (_mean_clock_mhz(first), _mean_clock_mhz(second))
    return CycleEvidence(ratio, level, clocks, tuple(_find_setters(first, second)))


def read_cycles(launch: Launch) -> float | None:
    """Return the latency of a launch in cycles of its device's mean clock over the timed calls; None where unknown."""
    seconds, clock = latency_s(launch), launch.conditions.clock_mean_mhz
    if seconds is None or not isinstance(clock, Known):
        return None
    return seconds * clock.value * _HZ_PER_MHZ


def explain_cycles(judgement: Judgement) -> str:
    """Return what the clock has to do with a change: that it is all of it or a part; "" where it is none."""
    cycles = judgement.cycles
    if cycles is None or cycles.explained == "none":
        return ""
    what = "the clock, not the code" if cycles.explained == "all" else "partly the clock"
    before, now = cycles.clocks_mhz
    set_by = f" ({'; '.join(cycles.set_by)})" if cycles.set_by else ""
    return f"{what}: {100 * (cycles.ratio - 1):+.1f} % in cycles, {now:.0f} MHz against {before:.0f}{set_by}"


def _mean_clock_mhz(items: Iterable[Sampled]) -> float:
    clocks = (launch.conditions.clock_mean_mhz for item in items for launch in item.launches)
    return exp(fmean(log(clock.value) for clock in clocks if isinstance(clock, Known)))


def _find_setters(baseline: Sequence[Sampled], candidate: Sequence[Sampled]) -> Iterable[str]:
    """Yield what set the clocks: limits that differ, throttling, and what does not follow the SM clock."""
    both = baseline, candidate
    limits = [_read_power_limit_w(items) for items in both]
    if _differ(*limits):
        yield f"power limit {limits[1]:g} W against {limits[0]:g}"
    reasons = [_throttle_reasons(items) for items in both]
    for reason in sorted(reasons[0].keys() | reasons[1].keys()):
        shares = [100 * of_one.get(reason, 0.0) for of_one in reasons]
        yield f"{reason} in {shares[1]:.0f} % of the time against {shares[0]:.0f}"
    memory = [_mean_of(items, lambda launch: launch.conditions.memory_clock_mean_mhz) for items in both]
    if _differ(*memory):
        yield f"memory clock {memory[1]:.0f} MHz against {memory[0]:.0f}, which parts bound by memory follow"
    states = [_mean_of(items, lambda launch: launch.conditions.performance_state) for items in both]
    if None not in states and states[0] != states[1]:
        yield f"P-state {states[1]:g} against {states[0]:g}"
    on_gpu = any(is_on_gpu(launch) for items in both for item in items for launch in item.launches)
    if on_gpu and not any(reasons) and not _differ(*limits):
        yield "the driver reports no reason: see nvidia-smi -q -d CLOCK for locked clocks"


def _read_power_limit_w(items: Sequence[Sampled]) -> float | None:
    gpus = items[0].record.fingerprint.configuration.gpus
    limits = [gpu.power_limit_w for gpu in gpus.value] if isinstance(gpus, Known) else []
    return next((limit.value for limit in limits if isinstance(limit, Known)), None)


def _throttle_reasons(items: Iterable[Sampled]) -> dict[str, float]:
    """The mean share of each throttle reason over the launches."""
    launches = [launch for item in items for launch in item.launches]
    shares: dict[str, float] = {}
    for launch in launches:
        known = launch.conditions.throttle_shares
        for share in known.value if isinstance(known, Known) else ():
            shares[share.reason] = shares.get(share.reason, 0.0) + share.ratio / len(launches)
    return shares


def _mean_of(items: Iterable[Sampled], read: Callable[[Launch], Reading[float] | Reading[int]]) -> float | None:
    readings = [read(launch) for item in items for launch in item.launches]
    known = [reading.value for reading in readings if isinstance(reading, Known)]
    return fmean(known) if known else None


def _differ(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and abs(now - before) > _SAME_RATIO * before
