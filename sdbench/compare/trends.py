"""One machine over the versions of something: where its figures changed, with intervals.

Below ten versions each is held against the one before. From ten on the series itself shows how much sessions vary, and
change points divide it into levels; then each level is held against the one before.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from math import exp, log

from sdbench.compare.comparability import Measured, reasons_against
from sdbench.compare.differences import OF_THE_DRIVER, flatten, is_missing
from sdbench.compare.evidence import Evidence, Pair, Sessions, read_latency_s, weigh
from sdbench.compare.judging import judge_metric
from sdbench.compare.trust import doubts, trust_of
from sdbench.compare.units import sample, session_values
from sdbench.compare.verdicts import Judgement
from sdbench.errors import UserError
from sdbench.schema.base import Model
from sdbench.schema.record import Record
from sdbench.stats.change_points import find_change_points
from sdbench.stats.moments import mean, variance
from sdbench.stats.ratios import LogRatio

VERSIONS_FOR_CHANGE_POINTS = 10
_MACHINES_NAMED = 5
_TO = " to "
_DOTTED = re.compile(r"[0-9]+\.[0-9]")
# What people call a field.
_ALIASES = {
    "driver": "software.gpu_kernel_driver",
    "nvidia_driver": "software.gpu_kernel_driver",
    "cuda": "software.torch_cuda",
    "image": "software.image_id",
    "sdbench": "software.sdbench_commit",
}


class VersionPoint(Model):
    """A version's latency (s): the geometric mean over its sessions; ``doubts`` names the checks they failed."""

    version: str
    latency_s: float
    session_count: int
    doubts: tuple[str, ...]


class Step(Model):
    """From one version, or level of versions, to the next, which begins with ``first_version``."""

    before: str
    after: str
    first_version: str
    judgement: Judgement


class ExperimentTrend(Model):
    """One experiment over the versions, and where it was held against itself; ``left_out`` says which were not."""

    experiment_id: str
    label: str
    points: tuple[VersionPoint, ...]
    left_out: tuple[str, ...]
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


# The names of two versions or levels, and what they tell.
_Weighed = tuple[str, str, Evidence]


@dataclass(frozen=True)
class _Level:
    """Neighbouring versions that belong together, with the log of each one's latency."""

    versions: tuple[str, ...]
    logs: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.versions[0] if len(self.versions) == 1 else f"{self.versions[0]}{_TO}{self.versions[-1]}"


def find_trend(records: Sequence[Record], by: str, margin: float) -> Trend:
    """Return how the latencies of one machine changed over the versions of a fingerprint field.

    Raises:
        UserError: the runs are not of one machine, the field is unknown, or it has fewer than two versions.
    """
    _refuse_several_machines(records)
    field, by_version = _sort_by_version(records, by)
    experiments: dict[str, dict[str, list[Measured]]] = {}
    for version, of_version in by_version.items():
        for record in of_version:
            for result in record.results:
                kept = experiments.setdefault(result.planned.experiment_id, {})
                kept.setdefault(version, []).append((record, result))
    # A driver changes with a boot: all its runs in one boot are one session.
    sessions = Sessions(records, by_boot=field == _ALIASES["driver"])
    found = _judge_all([_follow(key, versions, sessions) for key, versions in experiments.items()], margin)
    return Trend(
        by=field,
        device_name=records[0].device_name,
        origin=records[0].origin,
        margin=margin,
        versions=tuple(by_version),
        experiments=found,
        also=_find_companions(records, field),
    )


def count_versions(records: Sequence[Record], by: str) -> int:
    """Return how many known versions of a fingerprint field records have; 0 where it is no field of theirs."""
    try:
        return len(_sort_by_version(records, by)[1])
    except UserError:
        return 0


def version_of(record: Record, by: str) -> str | None:
    """Return a record's version of a fingerprint field; None where it is not known."""
    leaves = flatten(record.fingerprint)
    value = leaves.get(_field_meant(by, leaves))
    return None if value is None or is_missing(value) else str(value)


def _follow(
    experiment_id: str, versions: dict[str, list[Measured]], sessions: Sessions
) -> tuple[ExperimentTrend, list[_Weighed]]:
    """The trend of one experiment without its judgements, and what they are to be made of."""
    left_out = {version: reasons_against(items, items) for version, items in versions.items()}
    values = {
        version: session_values([sample(*item, read_latency_s) for item in items], by_boot=sessions.by_boot)
        for version, items in versions.items()
        if not left_out[version]
    }
    left_out |= {version: ("no latency was measured",) for version, found in values.items() if not found}
    values = {version: found for version, found in values.items() if found}
    points = tuple(
        VersionPoint(
            version=version,
            latency_s=exp(mean(map(log, found))),
            session_count=len(found),
            doubts=_doubts(versions[version]),
        )
        for version, found in values.items()
    )
    pairs = [(a, b, Pair(tuple(versions[a]), tuple(versions[b]))) for a, b in pairwise(values)]
    method = "each version against the one before"
    weighed = [(a, b, weigh(pair, ("latency_s",), sessions)[0]) for a, b, pair in pairs]
    # A step to other work, other weights say, is no step of one series.
    if len(values) >= VERSIONS_FOR_CHANGE_POINTS and not any(item.incomparable for _, _, item in weighed):
        method = "change points, each level against the one before"
        weighed = list(_weigh_levels(points))
    trend = ExperimentTrend(
        experiment_id=experiment_id,
        label=next(iter(versions.values()))[0][1].planned.label,
        points=points,
        left_out=tuple(f"{version}: {'; '.join(reasons)}" for version, reasons in left_out.items() if reasons),
        method=method,
        steps=(),
    )
    return trend, weighed


def _judge_all(found: Sequence[tuple[ExperimentTrend, list[_Weighed]]], margin: float) -> tuple[ExperimentTrend, ...]:
    """Judge all steps of all experiments together: the more there are, the more must each of them show."""
    judgements = iter(judge_metric([item for _, weighed in found for _, _, item in weighed], margin))
    trends = []
    for trend, weighed in found:
        steps = tuple(
            Step(before=a, after=b, first_version=b.partition(_TO)[0], judgement=next(judgements))
            for a, b, _ in weighed
        )
        trends.append(ExperimentTrend.model_validate(trend.model_dump() | {"steps": steps}))
    return tuple(trends)


def _doubts(items: Sequence[Measured]) -> tuple[str, ...]:
    """The names of the checks of a version's runs that found a reason to doubt them."""
    return tuple(dict.fromkeys(check.name for _, result in items for check in doubts(trust_of(result))))


def _weigh_levels(points: Sequence[VersionPoint]) -> Iterator[_Weighed]:
    """Levels between change points, with the variance between the versions within them."""
    versions, values = [point.version for point in points], [log(point.latency_s) for point in points]
    edges = [0, *find_change_points(values), len(values)]
    levels = [_Level(tuple(versions[start:end]), tuple(values[start:end])) for start, end in pairwise(edges)]
    freedom = len(values) - len(levels)
    squares = sum(variance(level.logs) * (len(level.logs) - 1) for level in levels if len(level.logs) > 1)
    for before, after in pairwise(levels):
        ratio = None
        if freedom > 0:
            error = (squares / freedom * (1 / len(before.logs) + 1 / len(after.logs))) ** 0.5
            ratio = LogRatio(mean(after.logs) - mean(before.logs), error, freedom)
        units = len(before.logs), len(after.logs)
        yield before.name, after.name, Evidence("latency_s", ratio, "session", units)


def _refuse_several_machines(records: Sequence[Record]) -> None:
    machines = {(record.origin, record.fingerprint.hardware_sha256, record.device) for record in records}
    if len(machines) > 1:
        counts = Counter(record.device_name for record in records)
        named = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_MACHINES_NAMED))
        more = ", ..." if len(counts) > _MACHINES_NAMED else ""
        raise UserError(f"these are runs of {len(machines)} machines or devices: {named}{more}; name the runs of one")
    if any(record.origin == "imported" for record in records):
        raise UserError("published figures have no samples to follow; name measured runs")


def _sort_by_version(records: Sequence[Record], by: str) -> tuple[str, dict[str, list[Record]]]:
    """The field that ``by`` means, and the records by its versions, the lowest first."""
    leaves = [flatten(record.fingerprint) for record in records]
    names = sorted({name for leaf in leaves for name in leaf})
    field = _field_meant(by, names)
    if field not in names:
        close = get_close_matches(by, [*names, *_ALIASES], n=3, cutoff=0.4)
        raise UserError(
            f"--by {by!r} is no field of these fingerprints; did you mean {' or '.join(close) or 'driver'}?"
        )
    sorted_records: dict[str, list[Record]] = {}
    for record, leaf in zip(records, leaves, strict=True):
        value = leaf.get(field)
        if value is not None and not is_missing(value):
            sorted_records.setdefault(str(value), []).append(record)
    if len(sorted_records) < 2:  # noqa: PLR2004 - one version has no trend
        seen = ", ".join(sorted_records) or "none that is known"
        raise UserError(
            f"--by {field}: these runs have {len(sorted_records)} version ({seen}); name runs of two or more"
        )
    if all(map(_DOTTED.match, sorted_records)):
        order = sorted(sorted_records, key=_version_key)
    else:
        # Image ids and commits have no order of their own.
        order = sorted(sorted_records, key=lambda version: min(r.created_utc for r in sorted_records[version]))
    return field, {version: sorted_records[version] for version in order}


def _field_meant(by: str, names: Collection[str]) -> str:
    field = _ALIASES.get(by.removeprefix("software."), by)
    return f"software.packages.{by}" if field not in names and f"software.packages.{by}" in names else field


def _version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers as numbers, so that 9.1 comes before 10.0: the more digits, the larger."""
    parts = [part.lstrip("0") if part.isdecimal() else part for part in re.findall(r"[0-9]+|[^0-9.]+", version)]
    return tuple((0, len(part), part) if part.isdecimal() or not part else (1, 0, part) for part in parts)


def _find_companions(records: Sequence[Record], field: str) -> tuple[str, ...]:
    """The other fields of configuration and software that are not the same in all runs."""
    leaves = [flatten(record.fingerprint) for record in records]
    kept = [name for name in leaves[0] if name.startswith(("configuration.", "software.")) and name != field]
    if field == _ALIASES["driver"]:
        kept = [name for name in kept if not OF_THE_DRIVER.fullmatch(name)]
    return tuple(
        name
        for name in kept
        if len({str(leaf.get(name)) for leaf in leaves}) > 1 and not any(is_missing(leaf.get(name)) for leaf in leaves)
    )
