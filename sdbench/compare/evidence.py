"""What two sides tell of one metric: the ratio at the level at which they differ, and what caps a verdict on it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median

from sdbench.compare.comparability import Measured, reasons_against
from sdbench.compare.units import (
    TURNS_PER_BLOCK,
    Level,
    ReadLaunch,
    Sampled,
    SessionVariance,
    find_level,
    group_repeated,
    learn_session_variance,
    pair_blocks,
    sample,
    session_values,
)
from sdbench.compare.verdicts import ALL_THROTTLED, UNIDENTIFIED, ComparedMetric, units_min
from sdbench.schema.base import Known
from sdbench.schema.outcome import Launch, was_throttled
from sdbench.schema.record import Record
from sdbench.stats.moments import mean
from sdbench.stats.ratios import LogRatio, paired_ratio, ratio_with_variance, welch_ratio

# A float holds no count of 400 digits, and no machine such a memory.
_BYTES_MAX = 2**100


@dataclass(frozen=True)
class Pair:
    """An experiment as both sides have it, in each of their sessions."""

    baseline: tuple[Measured, ...]
    candidate: tuple[Measured, ...]


@dataclass(frozen=True)
class Evidence:
    """A metric before the suite is looked at as a whole.

    ``units`` are the independent values of baseline and candidate, ``unit_s`` what one more of both costs (s). ``caps``
    say why no verdict may be given yet, ``incomparable`` why there cannot be one.
    """

    metric: ComparedMetric
    ratio: LogRatio | None = None
    level: Level | None = None
    units: tuple[int, int] = (0, 0)
    unit_s: float = 0.0
    caps: tuple[str, ...] = ()
    incomparable: tuple[str, ...] = ()


class Sessions:
    """What the records at hand tell of how one set-up varies from session to session."""

    def __init__(self, *sides: Iterable[Record], by_boot: bool) -> None:
        """Group the records of each side; ``by_boot`` counts all runs of a boot as one session.

        What differs between the sides is the question: it must not pass for the noise, even where both are alike in
        all that was read.
        """
        self.by_boot = by_boot
        self._groups = [group for side in sides for group in group_repeated(tuple(side)).values() if len(group) > 1]
        self._learned: dict[tuple[ComparedMetric, frozenset[str]], SessionVariance | None] = {}

    def variance(self, metric: ComparedMetric, pair: Pair) -> SessionVariance | None:
        """Return the variance between sessions on the machines of a pair, over all that was repeated there."""
        machines = frozenset(r.fingerprint.hardware_sha256 for r, _ in (*pair.baseline, *pair.candidate))
        if (metric, machines) not in self._learned:
            self._learned[metric, machines] = learn_session_variance(
                self._repetitions(group, _READERS[metric])
                for group in self._groups
                if group[0].fingerprint.hardware_sha256 in machines
            )
        return self._learned[metric, machines]

    def _repetitions(self, group: Sequence[Record], read: ReadLaunch) -> Iterator[tuple[float, ...]]:
        """For each experiment of repeated runs, its value in each session."""
        sampled: dict[str, list[Sampled]] = {}
        for record in group:
            for result in record.results:
                sampled.setdefault(result.planned.experiment_id, []).append(sample(record, result, read))
        return (session_values(items, by_boot=self.by_boot) for items in sampled.values())


def weigh(pair: Pair, metrics: Sequence[ComparedMetric], sessions: Sessions) -> tuple[Evidence, ...]:
    """Return what a pair tells of each metric."""
    reasons = reasons_against(pair.baseline, pair.candidate)
    return tuple(
        Evidence(metric, incomparable=reasons) if reasons else _weigh_metric(pair, metric, sessions)
        for metric in metrics
    )


def _weigh_metric(pair: Pair, metric: ComparedMetric, sessions: Sessions) -> Evidence:
    first, second = (
        [item for item in (sample(*measured, _READERS[metric]) for measured in side) if item.values]
        for side in (pair.baseline, pair.candidate)
    )
    if not first or not second:
        return Evidence(metric, incomparable=(f"{_NAMES[metric]} was not measured on both sides",))
    level = find_level(first, second)
    launch_s = mean(launch.wall_s for item in (*first, *second) for launch in item.launches)
    throttled = any(all(map(was_throttled, item.launches)) for item in (*first, *second))
    caps = (ALL_THROTTLED,) if throttled else ()
    if level == "block":
        # A treatment that changes within a session is told by its blocks, of however many sessions.
        blocks = [pair_blocks(a.timed, b.timed) for a, b in zip(first, second, strict=True)]
        bottom, top = ([value for block in blocks for value in block[side]] for side in (0, 1))
        ratio, cost_s = paired_ratio(top, bottom), TURNS_PER_BLOCK * launch_s
        return Evidence(metric, ratio, level, (len(bottom), len(top)), cost_s, (*caps, *_too_few(len(top), level)))
    if level == "launch":
        a, b = first[0].values, second[0].values
        caps = (*caps, *_too_few(min(len(a), len(b)), level))
        return Evidence(metric, welch_ratio(b, a), level, (len(a), len(b)), 2 * launch_s, caps)
    found = _weigh_sessions(metric, first, second, sessions.variance(metric, pair), by_boot=sessions.by_boot)
    return replace(found, caps=(*caps, *found.caps))


def _weigh_sessions(
    metric: ComparedMetric,
    baseline: Sequence[Sampled],
    candidate: Sequence[Sampled],
    variance: SessionVariance | None,
    *,
    by_boot: bool,
) -> Evidence:
    """Two sides of separate sessions: judged by the variance between sessions, capped where that is not known."""
    bottom, top = (session_values(side, by_boot=by_boot) for side in (baseline, candidate))
    launches = [[value for item in side for value in item.values] for side in (baseline, candidate)]
    run_s = sum(launch.wall_s for item in (*baseline, *candidate) for launch in item.launches)
    within = welch_ratio(launches[1], launches[0])
    if variance is None:
        units = len(launches[0]), len(launches[1])
        return Evidence(metric, within, "launch", units, 0.0, (_explain_unidentified(within),))
    ratio = ratio_with_variance(top, bottom, variance.variance, variance.degrees_of_freedom)
    if within is not None and within.standard_error > ratio.standard_error:
        # The launches at hand scatter more than sessions are known to: their own error is the larger one.
        freedom = min(within.degrees_of_freedom, ratio.degrees_of_freedom)
        ratio = LogRatio(ratio.log_value, within.standard_error, freedom)
    return Evidence(metric, ratio, "session", (len(bottom), len(top)), run_s / min(len(bottom), len(top)))


def _too_few(units: int, level: Level) -> tuple[str, ...]:
    if units >= units_min(level):
        return ()
    plural = {"block": "blocks", "launch": "launches", "session": "sessions"}[level]
    return (f"{units} of at least {units_min(level)} {plural} a side",)


def _explain_unidentified(ratio: LogRatio | None) -> str:
    """Why a verdict is capped, and how much sessions would have to vary to explain what is seen."""
    if ratio is None:
        return f"{UNIDENTIFIED}; and one launch has no interval"
    deviation = abs(ratio.log_value) / sqrt(2)
    return f"{UNIDENTIFIED}; sessions that vary by {deviation:.1%} (standard deviation) would explain this ratio"


def read_latency_s(launch: Launch) -> float | None:
    """Return the median (s) of the steady calls of a launch, None for one that timed nothing."""
    series = launch.find_series("latency")
    return median(series.steady) if series and series.steady else None


def _memory_bytes(launch: Launch) -> float | None:
    """Torch's reserved peak where there is one, as in the 2022 study, else the host's RSS peak."""
    for reading in (launch.memory.torch_reserved_peak_bytes, launch.memory.host_rss_peak_bytes):
        if isinstance(reading, Known):
            return float(min(reading.value, _BYTES_MAX))
    return None


def _energy_j(launch: Launch) -> float | None:
    """The energy (J) of one call."""
    energy = launch.energy
    if not isinstance(energy.energy_j, Known) or not energy.call_count:
        return None
    return energy.energy_j.value / energy.call_count


_READERS: dict[ComparedMetric, ReadLaunch] = {
    "latency_s": read_latency_s,
    "memory_bytes": _memory_bytes,
    "energy_j": _energy_j,
}
_NAMES: dict[ComparedMetric, str] = {"latency_s": "latency", "memory_bytes": "memory", "energy_j": "energy"}
