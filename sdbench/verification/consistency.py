"""Whether a record is consistent: identities, counts, times and the verdicts that follow from its samples.

Each check yields what contradicts the record, in words.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from sdbench.compare.quality import check_quality
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import load_manifest_text
from sdbench.schema.base import sha256_of
from sdbench.schema.metrics import SUSTAINED, steady_latencies_s
from sdbench.schema.outcome import Launch, Succeeded, launches_of, measuring_launches, was_throttled
from sdbench.schema.record import Record, Result
from sdbench.schema.workload_results import BatchSearch
from sdbench.stats.intervals import estimate_latency

# Clocks are read in two processes, and times are rounded to microseconds.
_TIME_SLACK_S = 0.05
_UTC = "%Y-%m-%dT%H:%M:%SZ"
# Whole seconds: a launch's start may be rounded down below that of its run.
_UTC_SLACK_S = 1.0
# Of a clock that is being set while a launch runs.
_CLOCK_DRIFT = 0.01
# The half-width is computed again, maybe by another version of the same formula.
_RELATIVE_SLACK = 1e-9
# As in the report: an image of 4096 x 4096 is past what any card here makes.
_PIXELS_MAX = 4096 * 4096


def named_launches(record: Record) -> Iterator[tuple[str, Result, Launch]]:
    """Yield each launch of a record with its name in messages and its result."""
    for result in record.results:
        for launch in launches_of(result.outcome):
            yield f"{result.planned.label}, launch {launch.index}", result, launch


def check_identities(record: Record) -> Iterator[str]:
    """Yield experiments whose id is not that of their options."""
    for result in record.results:
        planned = result.planned
        if planned.experiment_id != planned.experiment.experiment_id:
            yield f"{planned.label}: its options give {planned.experiment.experiment_id}, not {planned.experiment_id}"
        # The label of an import names what its source does not specify.
        if record.origin != "imported" and planned.label != planned.experiment.label:
            yield f"{planned.experiment_id} is called {planned.label!r}, its options give {planned.experiment.label!r}"
    ids = [result.planned.experiment_id for result in record.results]
    for experiment_id in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"{experiment_id} has two results"
    yield from _check_own_pipelines(record)


def _check_own_pipelines(record: Record) -> Iterator[str]:
    """Yield pipelines that do not ship, and whose name is not that of their configs and weights."""
    for name, own in record.pipelines.items():
        if name != own.config.name or name.rpartition("@")[2] != own.digest:
            yield f"the pipeline {name} has configs or weights of another name"
    for name, result, launch in named_launches(record):
        experiment = result.planned.experiment
        if "@" not in experiment.pipeline:
            continue
        if (known := record.pipelines.get(experiment.pipeline)) is None:
            yield f"{name}: the configs of {experiment.pipeline} are not in the record"
        elif not (
            experiment.weights == "synthetic"
            or experiment.needs_hub
            or launch.environment.weights_digest == f"sha256:{known.weights_sha256}"
        ):
            yield f"{name}: its weights are not those of {experiment.pipeline}"


def check_fingerprint(record: Record) -> Iterator[str]:
    """Yield parts of the fingerprint whose hash is not that of their content."""
    fingerprint = record.fingerprint
    for part in ("hardware", "configuration", "software"):
        if sha256_of(getattr(fingerprint, part).to_json_dict()) != getattr(fingerprint, f"{part}_sha256"):
            yield f"the hash of the {part} is not that of its content"


def check_samples(record: Record) -> Iterator[str]:
    """Yield launches whose samples do not fit their protocol, their clock, or each other."""
    for result in record.results:
        launches = launches_of(result.outcome)
        if [launch.index for launch in launches] != list(range(len(launches))):
            yield f"{result.planned.label}: launches are missing or duplicated"
    for name, result, launch in named_launches(record):
        for series in launch.series:
            if series.unit == "s" and min(series.samples, default=0.0) < 0:
                yield f"{name}: a negative time in {series.name}"
            if series.warmup_count > len(series.samples):
                yield f"{name}: more warm-ups than samples in {series.name}"
        if (latency := launch.find_series("latency")) is None:
            continue
        protocol = result.planned.protocol
        too_many_warmups = latency.warmup_count > protocol.warmup_calls and not protocol.warmup_s
        if too_many_warmups or len(latency.steady) > protocol.calls_max:
            yield f"{name}: more calls than its protocol allows"
        if not isinstance(launch.workload_result, BatchSearch) and len(latency.steady) < protocol.calls_min:
            yield f"{name}: {len(latency.steady)} timed calls, its protocol requires {protocol.calls_min}"


def check_times(record: Record) -> Iterator[str]:
    """Yield launches whose samples take longer than the launch did, or that ran outside their run."""
    run_start, run_end = _read_utc(record.created_utc), _read_utc(record.ended_utc)
    for name, _, launch in named_launches(record):
        latency, sustained = launch.find_series("latency"), launch.find_series(SUSTAINED)
        # The first call is the first sample; a search has no samples.
        # The wall time of a forked launch is without the imports of its template.
        own_import_s = launch.import_s if launch.isolation == "spawn" else 0.0
        needed_s = own_import_s + launch.load_s + (sum(latency.samples) if latency else launch.first_call_s)
        needed_s += sum(sustained.samples) if sustained else 0.0
        if needed_s > launch.wall_s + _TIME_SLACK_S:
            yield f"{name}: its parts took {needed_s:.3f} s, the whole {launch.wall_s:.3f} s"
        started = _read_utc(launch.started_utc)
        if started is None or run_start is None or run_end is None:
            yield f"{name}: a time is not ISO 8601 in UTC"
        elif not -_UTC_SLACK_S <= started - run_start <= run_end - run_start + _UTC_SLACK_S:
            yield f"{name}: started at {launch.started_utc}, outside its run"
        elif started + launch.wall_s * (1 - _CLOCK_DRIFT) > run_end + _UTC_SLACK_S:
            yield f"{name}: took {launch.wall_s:.3f} s from {launch.started_utc} on, beyond the end of its run"


def check_stop_reasons(record: Record) -> Iterator[str]:
    """Yield results whose samples do not support their stop reason."""
    for result in record.results:
        if not isinstance(result.outcome, Succeeded):
            continue
        protocol = result.planned.protocol
        measured = measuring_launches(result.outcome.launches)
        if result.outcome.stop_reason == "converged" and result.planned.experiment.workload == "latency":
            unthrottled = (launch for launch in measured if not was_throttled(launch))
            steady = [calls for launch in unthrottled if (calls := steady_latencies_s(launch))]
            width = estimate_latency(steady, protocol.confidence).relative_half_width if steady else None
            if width is None or width > protocol.relative_half_width * (1 + _RELATIVE_SLACK):
                shown = "none" if width is None else f"{width:.3%}"
                yield f"{result.planned.label}: reported as converged, but its half-width is {shown}"
        # In a session of two arms what both have decides.
        all_launches = result.outcome.stop_reason == "max_launches" and record.session is None
        if all_launches and (count := len(measured)) < protocol.launches_max:
            yield f"{result.planned.label}: reported to have all {protocol.launches_max} launches, but has {count}"
        if failed := [check.name for launch in result.outcome.launches for check in launch.checks if not check.passed]:
            yield f"{result.planned.label}: succeeded, but did not run as requested ({failed[0]})"


def check_verdicts(record: Record) -> Iterator[str]:
    """Yield results whose quality checks do not follow from their samples."""
    for result in record.results:
        recorded = {check.name: check.verdict for check in result.quality_checks}
        computed = {check.name: check.verdict for check in check_quality(result.outcome)}
        if missing := sorted(computed.keys() - recorded.keys()):
            yield f"{result.planned.label}: does not have the checks {', '.join(missing)}"
        for name, verdict in recorded.items():
            if computed.get(name) != verdict:
                expected = computed.get(name, "no such check")
                yield f"{result.planned.label}: {name} is recorded as {verdict}, its samples give {expected}"


def check_environment(record: Record) -> Iterator[str]:
    """Yield launches on another device or backend than that of the record or the experiment."""
    # A worker sees the record's GPU alone.
    expected = "cuda:0" if record.device.startswith("cuda") else record.device
    for name, result, launch in named_launches(record):
        if record.origin != "virtual" and launch.environment.device != expected:
            yield f"{name}: ran on {launch.environment.device}, the record is of {record.device}"
        if launch.environment.backend != result.planned.experiment.backend:
            yield f"{name}: ran on {launch.environment.backend}, not {result.planned.experiment.backend}"


def _without_launches(record: Record) -> str | None:
    return None if any(named_launches(record)) else "there is no launch to check"


def _without_times(record: Record) -> str | None:
    return "the clock of the virtual backend is simulated" if record.origin == "virtual" else _without_launches(record)


def _without_results(record: Record) -> str | None:
    return None if record.results else "there is no result to check"


# Of each check: what is proven if it yields nothing, the check, and why a record cannot be checked (None: it can).
CHECKS: Mapping[str, tuple[str, Callable[[Record], Iterator[str]], Callable[[Record], str | None]]] = {
    "identities": ("every experiment's id is that of its options", check_identities, _without_results),
    "fingerprint": ("the fingerprint's hashes are those of its parts", check_fingerprint, lambda _: None),
    "samples": ("the samples fit their protocol", check_samples, _without_launches),
    "times": ("samples fit into their launches, and these into the run", check_times, _without_times),
    "environment": ("launches ran on the record's device and requested backend", check_environment, _without_launches),
    "stop reasons": ("the samples and launches support each stop reason", check_stop_reasons, _without_launches),
}


def check_manifest(record: Record, text: str, name: str) -> Iterator[str]:
    """Yield experiments that the manifest requests and the record does not have, or the other way round.

    Raises:
        UserError: the manifest cannot be read by this version.
    """
    loaded = load_manifest_text(text, name)
    if loaded.manifest != record.manifest:
        yield "the manifest next to the record is not the record's"
    if record.session is not None:
        return
    weights = () if record.request.weights is None else (f"weights={record.request.weights}",)
    settings = parse_settings((*record.request.settings, *weights), record.pipelines)
    requested = {item.experiment_id for item in expand(loaded, settings, record.request.only)}
    recorded = {result.planned.experiment_id for result in record.results}
    if missing := requested - recorded:
        yield f"{len(missing)} experiments that the manifest requests have no result ({min(missing)}, ...)"
    if more := recorded - requested:
        yield f"{len(more)} results are of experiments that the manifest does not request ({min(more)}, ...)"


def check_pictures(record: Record, files: Mapping[str, bytes]) -> tuple[int, list[str]]:
    """Return how many pictures were decoded, and what contradicts the record about them.

    Raises:
        ImportError: Pillow is not installed.
    """
    from PIL import Image

    count, wrong = 0, []
    for image in (image for _, _, launch in named_launches(record) for image in launch.images):
        if (path := image.path) is None:
            continue
        if path not in files:
            wrong.append(f"{path} is missing")
            continue
        try:
            with Image.open(io.BytesIO(files[path]), formats=("WEBP",)) as opened:
                if opened.width * opened.height > _PIXELS_MAX:
                    wrong.append(f"{path} has more pixels than any image here")
                    continue
                picture = opened.convert("RGB")
        # What Pillow raises for damaged files.
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            wrong.append(f"{path} is not a picture")
            continue
        count += 1
        if picture.size != (image.width, image.height):
            wrong.append(f"{path} has {picture.width}x{picture.height} pixels, the record {image.width}x{image.height}")
        elif hashlib.sha256(picture.tobytes()).hexdigest() != image.sha256:
            wrong.append(f"{path} is another image than the one that was made")
    return count, wrong


def _read_utc(text: str) -> float | None:
    try:
        return datetime.strptime(text, _UTC).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
