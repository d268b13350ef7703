"""One machine over the versions of a driver or another field: where its results changed, with intervals.

With fewer than ten versions each is compared with the one before. With more, the series itself shows how much sessions
vary, and change points divide it into levels that are compared. A level of one session may be an odd one: it is named.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from itertools import chain, combinations, pairwise
from math import exp, log
from statistics import fmean

from sdbench.compare.comparability import Measured, group_by_experiment, reasons_against
from sdbench.compare.differences import Difference
from sdbench.compare.judge import judge_metric
from sdbench.compare.levels import learn_session_variance, sample, session_values
from sdbench.compare.policy import ONE_SESSION, Judgement
from sdbench.compare.quality import failed_checks, quality_checks_of
from sdbench.compare.samples import Evidence, Pair, Sessions, weigh
from sdbench.compare.versions import DRIVER, find_changes, find_companions, sort_by_version
from sdbench.compare.why import describe_moved
from sdbench.errors import UserError
from sdbench.schema.base import Model
from sdbench.schema.metrics import latency_s as read_latency_s
from sdbench.schema.record import Record
from sdbench.stats.change_points import find_change_points
from sdbench.stats.ratios import ratio_with_variance

VERSIONS_FOR_CHANGE_POINTS = 10
_NAMED_MAX = 5
_MACHINE_DIGITS = 12
_TO = " to "


class VersionPoint(Model):
    """A version's latency (s): the geometric mean over its sessions; ``failed_checks`` names those they failed."""

    version: str
    latency_s: float
    session_count: int
    failed_checks: tuple[str, ...]


class Step(Model):
    """From one version, or level of versions, to the next, which starts with ``first_version``.

    ``changes`` are what else changed between the runs of the last version before the step and of the first after it,
    ``moved`` the operators that the change of the latency is of; empty where that is not known.
    """

    before: str
    after: str
    first_version: str
    judgement: Judgement
    changes: tuple[Difference, ...]
    moved: str


class ExperimentTrend(Model):
    """One experiment over versions; ``left_out`` have no result, and ``odd_sessions`` one session that is off."""

    experiment_id: str
    label: str
    points: tuple[VersionPoint, ...]
    left_out: tuple[str, ...]
    odd_sessions: tuple[str, ...]
    method: str
    steps: tuple[Step, ...]


class Trend(Model):
    """Every experiment of one machine over the versions of ``by``; ``also`` names what else changed with it."""

    by: str
    device_name: str
    origin: str
    margin: float
    versions: tuple[str, ...]
    experiments: tuple[ExperimentTrend, ...]
    also: tuple[str, ...]


@dataclass
class _Versions:
    """The runs of each version, and what changed between those of two, which all experiments share."""

    field: str
    records: dict[str, list[Record]]
    results: dict[str, dict[str, tuple[Measured, ...]]]
    known: dict[tuple[str, str], tuple[Difference, ...]] = dataclass_field(default_factory=dict)

    def changes(self, before: str, after: str) -> tuple[Difference, ...]:
        """What else changed from the runs of one version to those of another."""
        key = before, after
        if key not in self.known:
            self.known[key] = find_changes(self.records[before], self.records[after], self.field)
        return self.known[key]

    def step(self, experiment_id: str, before: str, after: str, judgement: Judgement) -> Step:
        """The step of an experiment from one version, or level of versions, to the next."""
        last, first = before.rpartition(_TO)[2], after.partition(_TO)[0]
        of_version = self.results[experiment_id]
        return Step(
            before=before,
            after=after,
            first_version=first,
            judgement=judgement,
            changes=self.changes(last, first),
            moved=describe_moved(of_version[last], of_version[first], judgement),
        )


# What record.machine_key has: origin, hash of the hardware, device.
_MachineKey = tuple[str, str, str]
# The names of two versions or levels, and the evidence on their ratio.
_Weighed = tuple[str, str, Evidence]


def find_trend(records: Sequence[Record], by: str, margin: float) -> Trend:
    """Return how the latencies of one machine changed over the versions of a fingerprint field.

    Raises:
        UserError: the runs are not of one machine, the field is unknown, or it has fewer than two versions.
    """
    _refuse_several_machines(records)
    field, by_version = sort_by_version(records, by)
    experiments: dict[str, dict[str, tuple[Measured, ...]]] = {}
    for version, members in by_version.items():
        for experiment_id, items in group_by_experiment(members).items():
            experiments.setdefault(experiment_id, {})[version] = items
    # A driver changes with a boot: all its runs in one boot are one session.
    sessions = Sessions(records, by_boot=field == DRIVER)
    followed = [_follow(key, versions, sessions) for key, versions in experiments.items()]
    return Trend(
        by=field,
        device_name=records[0].device_name,
        origin=records[0].origin,
        margin=margin,
        versions=tuple(by_version),
        experiments=tuple(_judge_all(followed, margin, _Versions(field, by_version, experiments))),
        also=find_companions(records, field),
    )


def _follow(
    experiment_id: str, versions: dict[str, tuple[Measured, ...]], sessions: Sessions
) -> tuple[ExperimentTrend, list[_Weighed]]:
    """The trend of one experiment without its steps, and the evidence from which they are judged."""
    left_out = {version: reasons_against(items, items) for version, items in versions.items()}
    points = []
    for version, items in versions.items():
        sampled = [] if left_out[version] else [sample(*item, read_latency_s) for item in items]
        values = session_values(sampled, by_boot=sessions.by_boot)
        if values:
            points.append(_point(version, items, values))
        elif sampled:
            left_out[version] = ("no latency was measured",)
    method = "each version against the one before"
    odd: list[VersionPoint] = []
    weighed = []
    for before, after in pairwise(points):
        evidence = weigh(Pair(versions[before.version], versions[after.version]), ("latency_s",), sessions)[0]
        if 1 in (before.session_count, after.session_count) and not evidence.caps:
            evidence = replace(evidence, caps=(ONE_SESSION,))
        weighed.append((before.version, after.version, evidence))
    # A step to different work, such as other weights, is not a step within one series.
    if len(points) >= VERSIONS_FOR_CHANGE_POINTS and not any(evidence.incomparable for *_, evidence in weighed):
        method = "change points, each level against the one before"
        levels, odd = _find_levels(points)
        weighed = list(_weigh_levels(levels))
    trend = ExperimentTrend(
        experiment_id=experiment_id,
        label=next(iter(versions.values()))[0][1].planned.label,
        points=tuple(points),
        left_out=tuple(f"{version}: {'; '.join(reasons)}" for version, reasons in left_out.items() if reasons),
        odd_sessions=tuple(_describe_odd(point, points) for point in odd),
        method=method,
        steps=(),
    )
    return trend, weighed


def _point(version: str, items: Sequence[Measured], values: Sequence[float]) -> VersionPoint:
    warned = [check.name for _, result in items for check in failed_checks(quality_checks_of(result))]
    return VersionPoint(
        version=version,
        latency_s=exp(fmean(map(log, values))),
        session_count=len(values),
        failed_checks=tuple(dict.fromkeys(warned)),
    )


def _judge_all(
    followed: Sequence[tuple[ExperimentTrend, list[_Weighed]]], margin: float, versions: _Versions
) -> list[ExperimentTrend]:
    """Judge all steps of all experiments together: the more there are, the stronger the evidence each one needs."""
    judgements = iter(judge_metric([evidence for _, weighed in followed for *_, evidence in weighed], margin))
    trends = []
    for trend, weighed in followed:
        steps = tuple(
            versions.step(trend.experiment_id, before, after, next(judgements)) for before, after, _ in weighed
        )
        trends.append(trend.model_copy(update={"steps": steps}))
    return trends


def _find_levels(points: Sequence[VersionPoint]) -> tuple[list[list[VersionPoint]], list[VersionPoint]]:
    """The levels between change points, and the odd sessions: each one alone would have been a level."""
    remaining, odd = list(points), list[VersionPoint]()
    while True:
        edges = [0, *find_change_points([log(point.latency_s) for point in remaining]), len(remaining)]
        levels = [remaining[start:end] for start, end in pairwise(edges)]
        alone = [level[0] for level in levels if sum(point.session_count for point in level) == 1]
        if not alone or len(alone) == len(remaining):
            return levels, odd
        odd += alone
        # Without them, the levels around them are one level again.
        remaining = [point for point in remaining if point not in alone]


def _describe_odd(point: VersionPoint, points: Sequence[VersionPoint]) -> str:
    index = points.index(point)
    neighbours = [other.latency_s for other in (*points[max(index - 1, 0) : index], *points[index + 1 : index + 2])]
    change = point.latency_s / exp(fmean(map(log, neighbours))) - 1
    return f"{point.version}: {100 * change:+.2f} % from its neighbours"


def _weigh_levels(levels: Sequence[Sequence[VersionPoint]]) -> Iterator[_Weighed]:
    """Each level and the one before, with the variance between the versions within levels."""
    names = [_TO.join(dict.fromkeys((level[0].version, level[-1].version))) for level in levels]
    values = [[point.latency_s for point in level] for level in levels]
    known = learn_session_variance([level] for level in values)
    for (before, bottom), (after, top) in pairwise(zip(names, values, strict=True)):
        ratio = ratio_with_variance(top, bottom, *known) if known else None
        yield before, after, Evidence("latency_s", ratio, "session", (len(bottom), len(top)))


def _refuse_several_machines(records: Sequence[Record]) -> None:
    machines = Counter(record.machine_key for record in records)
    if len(machines) > 1:
        names = {record.machine_key: f"{record.device_name} on {record.device}" for record in records}
        common = machines.most_common(_NAMED_MAX)
        named = ", ".join(f"{names[key]} ({count} run{'s' * (count != 1)})" for key, count in common)
        more = ", ..." if len(machines) > _NAMED_MAX else ""
        raise UserError(
            f"these are runs of {len(machines)} machines or devices: {named}{more}; "
            f"choose one with {_condition_of(common[0][0], machines)}"
        )
    if any(record.origin == "imported" for record in records):
        raise UserError("reference results have no samples to follow; name measured runs")


def _condition_of(chosen: _MachineKey, machines: Collection[_MachineKey]) -> str:
    """The shortest options of the command that leave the runs of one machine and device."""
    origin, hardware, device = chosen
    conditions = {f"device={device}": 2, f"machine={hardware[:_MACHINE_DIGITS]}": 1, f"origin={origin}": 0}
    choices = chain.from_iterable(combinations(conditions.items(), count) for count in (1, 2, 3))
    wanted = next(
        choice
        for choice in choices
        if sum(all(key[place] == chosen[place] for _, place in choice) for key in machines) == 1
    )
    return " ".join(f"--where {text}" for text, _ in wanted)
