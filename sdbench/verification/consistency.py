"""Whether a record agrees with itself: identities, counts, times and the verdicts that follow from its samples.

Each check returns what contradicts the record, in words; nothing if all is well.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sdbench.compare.trust import check_trust
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import load_manifest_text
from sdbench.schema.base import sha256_of
from sdbench.schema.outcome import Launch, Succeeded, launches_of, measuring_launches, was_throttled
from sdbench.schema.record import Record
from sdbench.schema.study import BatchSearch
from sdbench.stats.intervals import estimate_latency

# Clocks are read in two processes, and times are rounded to microseconds.
_TIME_SLACK_S = 0.05
_UTC = "%Y-%m-%dT%H:%M:%SZ"
# Whole seconds: a launch's start may be rounded down below that of its run.
_UTC_SLACK_S = 1.0
# Of a clock that is being set while a launch runs.
_CLOCK_DRIFT = 0.01
# The half-width is computed anew, maybe by another version of the same formula.
_RELATIVE_SLACK = 1e-9

Check = Callable[[Record], Iterator[str]]


def check_identities(record: Record) -> Iterator[str]:
    """Yield experiments whose id is not that of their options."""
    for result in record.results:
        planned = result.planned
        if planned.experiment_id != planned.experiment.experiment_id:
            yield f"{planned.label}: its options give {planned.experiment.experiment_id}, not {planned.experiment_id}"
        # An import says in the label what its source left open.
        if record.origin != "imported" and planned.label != planned.experiment.label:
            yield f"{planned.experiment_id} is called {planned.label!r}, its options say {planned.experiment.label!r}"
    ids = [result.planned.experiment_id for result in record.results]
    for experiment_id in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"{experiment_id} has two results"


def check_fingerprint(record: Record) -> Iterator[str]:
    """Yield parts of the fingerprint whose hash is not that of their content."""
    fingerprint = record.fingerprint
    for part in ("hardware", "configuration", "software"):
        if sha256_of(getattr(fingerprint, part).to_json_dict()) != getattr(fingerprint, f"{part}_sha256"):
            yield f"the hash of the {part} is not that of its content"


def check_samples(record: Record) -> Iterator[str]:
    """Yield launches whose samples do not fit their protocol, their clock, or each other."""
    for result in record.results:
        protocol, launches = result.planned.protocol, launches_of(result.outcome)
        if [launch.index for launch in launches] != list(range(len(launches))):
            yield f"{result.planned.label}: launches are missing, or there twice"
        for launch in launches:
            name = f"{result.planned.label}, launch {launch.index}"
            for series in launch.series:
                if series.unit == "s" and min(series.samples, default=0.0) < 0:
                    yield f"{name}: a negative time in {series.name}"
                if series.warmup_count > len(series.samples):
                    yield f"{name}: more warm-ups than samples in {series.name}"
            latency = launch.find_series("latency")
            if latency is None:
                continue
            if latency.warmup_count > protocol.warmup_calls or len(latency.steady) > protocol.calls_max:
                yield f"{name}: more calls than its protocol allows"
            if not isinstance(launch.study, BatchSearch) and len(latency.steady) < protocol.calls_min:
                yield f"{name}: {len(latency.steady)} timed calls, its protocol asks for {protocol.calls_min}"


def check_times(record: Record) -> Iterator[str]:
    """Yield launches whose samples take longer than the launch did, or that ran outside their run."""
    begin, end = _read_utc(record.created_utc), _read_utc(record.ended_utc)
    for result in record.results:
        for launch in launches_of(result.outcome):
            name = f"{result.planned.label}, launch {launch.index}"
            if (needed_s := _needed_s(launch)) > launch.wall_s + _TIME_SLACK_S:
                yield f"{name}: its parts took {needed_s:.3f} s, the whole {launch.wall_s:.3f} s"
            started = _read_utc(launch.started_utc)
            if started is None or begin is None or end is None:
                yield f"{name}: a time is not ISO 8601 in UTC"
            elif not -_UTC_SLACK_S <= started - begin <= end - begin + _UTC_SLACK_S:
                yield f"{name}: started at {launch.started_utc}, outside its run"
            elif started + launch.wall_s * (1 - _CLOCK_DRIFT) > end + _UTC_SLACK_S:
                yield f"{name}: took {launch.wall_s:.3f} s from {launch.started_utc} on, beyond the end of its run"


def check_stop_reasons(record: Record) -> Iterator[str]:
    """Yield results that claim to be precise, or to have used every launch, and are not or have not."""
    for result in record.results:
        if not isinstance(result.outcome, Succeeded):
            continue
        protocol = result.planned.protocol
        steady = [launch for launch in measuring_launches(result.outcome.launches) if not was_throttled(launch)]
        if result.outcome.stop_reason == "precise enough" and result.planned.experiment.workload == "latency":
            width = _half_width(steady, protocol.confidence)
            if width is None or width > protocol.relative_half_width * (1 + _RELATIVE_SLACK):
                shown = "none" if width is None else f"{width:.3%}"
                yield f"{result.planned.label}: said to be precise, but its half-width is {shown}"
        count = len(measuring_launches(result.outcome.launches))
        # In a session of two sides what both have decides.
        if result.outcome.stop_reason == "most allowed" and record.session is None and count < protocol.launches_max:
            yield f"{result.planned.label}: said to have all {protocol.launches_max} launches, but has {count}"
        if failed := [check.name for launch in result.outcome.launches for check in launch.checks if not check.passed]:
            yield f"{result.planned.label}: succeeded, but what ran was not what was asked ({failed[0]})"


def check_verdicts(record: Record) -> Iterator[str]:
    """Yield results whose trust checks do not follow from their samples."""
    for result in record.results:
        said = {check.name: check.verdict for check in result.trust}
        anew = {check.name: check.verdict for check in check_trust(result.outcome)}
        if missing := sorted(anew.keys() - said.keys()):
            yield f"{result.planned.label}: lacks the checks {', '.join(missing)}"
        for name, verdict in said.items():
            if anew.get(name) != verdict:
                found = anew.get(name, "nothing of it")
                yield f"{result.planned.label}: {name} is said to be {verdict}, its samples say {found}"


def check_environment(record: Record) -> Iterator[str]:
    """Yield launches on another device or backend than the record or the experiment says."""
    for result in record.results:
        for launch in launches_of(result.outcome):
            name = f"{result.planned.label}, launch {launch.index}"
            if record.origin != "virtual" and launch.environment.device != record.device:
                yield f"{name}: ran on {launch.environment.device}, the record is of {record.device}"
            if launch.environment.backend != result.planned.experiment.backend:
                yield f"{name}: ran on {launch.environment.backend}, not {result.planned.experiment.backend}"


def has_launches(record: Record) -> str | None:
    """Return why nothing can be said of launches, or None."""
    return None if any(launches_of(result.outcome) for result in record.results) else "there is no launch to look at"


def has_times(record: Record) -> str | None:
    """Return why nothing can be said of times, or None."""
    return "the clock of the virtual backend is made up" if record.origin == "virtual" else has_launches(record)


def has_identities(record: Record) -> str | None:
    """Return why nothing can be said of experiments, or None."""
    return None if record.results else "there is no result to look at"


class ConsistencyCheck(NamedTuple):
    """What is proven if a check yields nothing, and ``why_not`` nothing can be said of it."""

    text: str
    check: Check
    why_not: Callable[[Record], str | None]


CHECKS = {
    "identities": ConsistencyCheck("every experiment's id is that of its options", check_identities, has_identities),
    "fingerprint": ConsistencyCheck(
        "the fingerprint's hashes are those of its parts", check_fingerprint, lambda _: None
    ),
    "samples": ConsistencyCheck("the samples fit their protocol", check_samples, has_launches),
    "times": ConsistencyCheck("samples fit into their launches, and these into the run", check_times, has_times),
    "environment": ConsistencyCheck(
        "every launch ran on the record's device and the backend asked for", check_environment, has_launches
    ),
    "stop reasons": ConsistencyCheck(
        "what is said to be precise, or to have every launch, is and has", check_stop_reasons, has_launches
    ),
}


def check_manifest(record: Record, text: str, name: str) -> Iterator[str]:
    """Yield experiments that the manifest asks for and the record lacks, or that nobody asked for.

    Raises:
        UserError: the manifest cannot be read by this version.
    """
    loaded = load_manifest_text(text, name)
    if loaded.manifest != record.manifest:
        yield "the manifest beside the record is not the record's"
    if record.session is not None:
        return
    weights = () if record.request.weights is None else (f"weights={record.request.weights}",)
    settings = parse_settings((*record.request.settings, *weights))
    asked = {item.experiment_id for item in expand(loaded, settings, record.request.only)}
    found = {result.planned.experiment_id for result in record.results}
    if missing := asked - found:
        yield f"{len(missing)} experiments that the manifest asks for have no result ({min(missing)}, ...)"
    if more := found - asked:
        yield f"{len(more)} results are of experiments that the manifest does not ask for ({min(more)}, ...)"


def _half_width(launches: Sequence[Launch], confidence: float) -> float | None:
    series = [latency.steady for launch in launches if (latency := launch.find_series("latency")) and latency.steady]
    return estimate_latency(series, confidence).relative_half_width if series else None


def _needed_s(launch: Launch) -> float:
    latency = launch.find_series("latency")
    # The first call is the first sample; a search has no samples.
    timed_s = sum(latency.samples) if latency else launch.first_call_s
    return launch.import_s + launch.load_s + timed_s


def _read_utc(text: str) -> float | None:
    try:
        return datetime.strptime(text, _UTC).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
