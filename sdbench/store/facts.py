"""The few facts of a run that people look for, read from ``record.json`` without building the whole record."""

import json
import re
from collections.abc import Sequence
from math import exp, fsum, log
from statistics import median
from typing import Any, TypeVar

import msgspec

from sdbench.errors import RecordError
from sdbench.schema.versions import RECORD_SCHEMA


class Reading(msgspec.Struct, gc=False):
    """A reading whose value is looked at; ``value`` is None where it is unknown."""

    value: Any = None


class Hardware(msgspec.Struct, gc=False):
    """Of the hardware what people call it."""

    cpu_model: Reading
    gpus: Reading


class Package(msgspec.Struct, gc=False):
    """An installed distribution."""

    name: str
    version: Reading


class Packages(msgspec.Struct, gc=False):
    """The reading of the installed distributions."""

    value: tuple[Package, ...] = ()


class Software(msgspec.Struct, gc=False):
    """Of the software what results are grouped by."""

    kernel: Reading
    packages: Packages
    gpu_kernel_driver: Reading
    gpu_libcuda: Reading
    torch_cuda: Reading
    cudnn: Reading
    image_digest: Reading
    image_id: Reading
    sdbench_version: Reading
    sdbench_commit: Reading


class Fingerprint(msgspec.Struct, gc=False):
    """Of the fingerprint the parts and the hash that tells machines apart."""

    hardware: Hardware
    hardware_sha256: str
    software: Software


class TimedSeries(msgspec.Struct, kw_only=True, gc=False):
    """Raw samples; the first ``warmup_count`` are warm-ups."""

    name: str
    samples: tuple[float, ...]
    warmup_count: int = 0


class Series(TimedSeries, kw_only=True, gc=False):
    """Raw samples and their unit."""

    unit: str


class Study(msgspec.Struct, frozen=True):
    """Of a study its kind and, of a search, its answer."""

    kind: str
    largest_batch: int | None = None


class Memory(msgspec.Struct, gc=False):
    """Of the memory figures the two that are compared."""

    torch_reserved_peak_bytes: Reading
    host_rss_peak_bytes: Reading


class Energy(msgspec.Struct, gc=False):
    """Energy (J) over the timed steady calls."""

    energy_j: Reading
    call_count: int


class Environment(msgspec.Struct, gc=False):
    """Of what the worker saw the device's name."""

    device_name: str


class TimedLaunch(msgspec.Struct, kw_only=True, gc=False):
    """Of a launch what a latency is made of."""

    batch: int
    series: tuple[TimedSeries, ...]
    environment: Environment
    throttled: Reading
    study: Study | None = None


class Launch(TimedLaunch, kw_only=True, gc=False):
    """Of a launch what figures are made of."""

    index: int
    series: tuple[Series, ...]
    memory: Memory
    energy: Energy


class TimedOutcome(msgspec.Struct, kw_only=True, gc=False):
    """What became of an experiment: the launches of a success, or the latency (s) that somebody published."""

    kind: str
    launches: tuple[TimedLaunch, ...] = ()
    latency_s: float | None = None


class Outcome(TimedOutcome, kw_only=True, gc=False):
    """What became of an experiment; ``launches`` of a success, ``partial`` of any other end."""

    launches: tuple[Launch, ...] = ()
    partial: tuple[Launch, ...] = ()


class Trust(msgspec.Struct, gc=False):
    """A check of how far a result can be trusted."""

    name: str
    verdict: str


class Planned(msgspec.Struct, gc=False):
    """An experiment, its id and its options."""

    experiment_id: str
    label: str
    groups: tuple[str, ...]
    experiment: dict[str, Any]


class Result(msgspec.Struct, gc=False):
    """A planned experiment and its outcome."""

    planned: Planned
    outcome: Outcome
    trust: tuple[Trust, ...]


class Request(msgspec.Struct, gc=False):
    """Of what was asked the manifest."""

    manifest_name: str
    manifest_sha256: str


class Manifest(msgspec.Struct, gc=False):
    """Of the manifest its title."""

    title: str


class PartialRecord(msgspec.Struct, gc=False):
    """Of a record what is looked for; the rest of the file is skipped, not built."""

    origin: str
    run_id: str
    created_utc: str
    ended: str
    request: Request
    manifest: Manifest
    device: str
    fingerprint: Fingerprint
    results: tuple[Result, ...]
    seal: str
    exported: dict[str, Any] | None = None


class BriefSoftware(msgspec.Struct, gc=False):
    """Of the software the driver."""

    gpu_kernel_driver: Reading


class BriefHardware(msgspec.Struct, gc=False):
    """Of the hardware what stands for a machine without a GPU."""

    cpu_model: Reading


class BriefFingerprint(msgspec.Struct, gc=False):
    """Of the fingerprint what a summary is grouped by."""

    hardware: BriefHardware
    software: BriefSoftware


class Named(msgspec.Struct, gc=False):
    """Of a planned experiment what people call it."""

    label: str


class BriefResult(msgspec.Struct, gc=False):
    """A result as a summary needs it."""

    planned: Named
    outcome: TimedOutcome


class BriefRecord(msgspec.Struct, gc=False):
    """Of a record what a summary needs, and no more: of 10,000 records half the time is building what is not needed."""

    device: str
    fingerprint: BriefFingerprint
    results: tuple[BriefResult, ...]

    @property
    def device_name(self) -> str:
        """What the device is called: the GPU's name as a worker saw it, else the processor's."""
        if self.device.startswith("cuda"):
            for result in self.results:
                for launch in result.outcome.launches:
                    return launch.environment.device_name
        return str(self.fingerprint.hardware.cpu_model.value or self.device)


class Facts(msgspec.Struct, frozen=True):
    """The facts of one run, as the index has them; None is unknown."""

    run_id: str
    created_utc: str
    origin: str
    ended: str
    manifest: str
    title: str
    device: str
    gpu: str | None
    cpu: str | None
    gpu_count: int
    machine: str
    driver: str | None
    libcuda: str | None
    cuda: str | None
    cudnn: str | None
    torch: str | None
    onnxruntime: str | None
    diffusers: str | None
    kernel: str | None
    image_digest: str | None
    image_id: str | None
    sdbench_version: str | None
    sdbench_commit: str | None
    published: bool
    seal: str


T = TypeVar("T")
L = TypeVar("L", bound=TimedLaunch)
_DECODER = msgspec.json.Decoder(PartialRecord)
_BRIEF_DECODER = msgspec.json.Decoder(BriefRecord)
# The first key of every record; told from its bytes, because older versions have other shapes.
_CURRENT_HEAD = re.compile(rb'\s*\{\s*"schema"\s*:\s*"' + RECORD_SCHEMA.encode() + rb'"')


def read_brief(content: bytes, name: str) -> BriefRecord:
    """Return what a summary needs of the bytes of a ``record.json``; the seal is not checked.

    Raises:
        RecordError: no record, damaged, or of a future version.
    """
    return _decode(content, name, _BRIEF_DECODER, BriefRecord)


def read_partial(content: bytes, name: str) -> PartialRecord:
    """Return what is looked for in the bytes of a ``record.json``; ``name`` stands for it in messages.

    The seal is not checked.

    Raises:
        RecordError: no record, damaged, or of a future version.
    """
    return _decode(content, name, _DECODER, PartialRecord)


def _decode(content: bytes, name: str, decoder: "msgspec.json.Decoder[T]", kind: type[T]) -> T:
    try:
        if _CURRENT_HEAD.match(content):
            return decoder.decode(content)
        from sdbench.schema.migrations import migrate_record

        stored = json.loads(content)
        if not isinstance(stored, dict):
            raise RecordError(f"{name}: not a record, but a JSON {type(stored).__name__}")
        return msgspec.convert(migrate_record(stored, name), kind)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(
            f"{name}: not a sound record ({' '.join(str(error).split())[:120]}); check it with sdbench verify"
        ) from None


def read_sealed(content: bytes, name: str) -> PartialRecord:
    """Return what ``read_partial`` does, after checking the seal.

    Raises:
        RecordError: no record, damaged, of a future version, or changed after it was sealed.
    """
    from sdbench.schema.record import compute_seal

    record = read_partial(content, name)
    if record.seal != compute_seal(json.loads(content)):
        raise RecordError(f"{name}: the seal does not match: the record was changed after it was sealed")
    return record


def facts_of(record: PartialRecord) -> Facts:
    """Return the facts of one run."""
    hardware, software = record.fingerprint.hardware, record.fingerprint.software
    versions = {package.name: package.version.value for package in software.packages.value}
    gpus = hardware.gpus.value or ()
    return Facts(
        run_id=record.run_id,
        created_utc=record.created_utc,
        origin=record.origin,
        ended=record.ended,
        manifest=record.request.manifest_name,
        title=record.manifest.title,
        device=record.device,
        gpu=_gpu_name(record, gpus) if record.device.startswith("cuda") else None,
        cpu=hardware.cpu_model.value,
        gpu_count=len(gpus),
        machine=record.fingerprint.hardware_sha256,
        driver=software.gpu_kernel_driver.value,
        libcuda=software.gpu_libcuda.value,
        cuda=software.torch_cuda.value,
        cudnn=software.cudnn.value,
        torch=versions.get("torch"),
        onnxruntime=versions.get("onnxruntime") or versions.get("onnxruntime-gpu"),
        diffusers=versions.get("diffusers"),
        kernel=software.kernel.value,
        image_digest=software.image_digest.value,
        image_id=software.image_id.value,
        sdbench_version=software.sdbench_version.value,
        sdbench_commit=software.sdbench_commit.value,
        published=record.exported is not None,
        seal=record.seal,
    )


def launches_of(outcome: Outcome) -> tuple[Launch, ...]:
    """Return every finished launch of an outcome, whatever its end."""
    return outcome.launches or outcome.partial


def counted_launches(launches: Sequence[L]) -> tuple[L, ...]:
    """Return the launches that an estimate is made of, as ``schema.outcome.counted_launches`` of a whole record."""
    searches = [launch.study for launch in launches if launch.study and launch.study.kind == "batch_search"]
    answer = searches[-1].largest_batch if searches else None
    measuring = tuple(
        launch
        for launch in launches
        if not (launch.study and launch.study.kind == "batch_search") and answer in (None, launch.batch)
    )
    return tuple(launch for launch in measuring if launch.throttled.value is not True) or measuring


def latency_s_of(outcome: TimedOutcome) -> float | None:
    """Return a result's latency (s per call): the geometric mean of its launches' medians, or what was published."""
    if outcome.kind == "published":
        return outcome.latency_s
    medians_s = []
    for launch in counted_launches(outcome.launches):
        steady = next((item.samples[item.warmup_count :] for item in launch.series if item.name == "latency"), ())
        if not steady or min(steady) <= 0:
            return None
        medians_s.append(median(steady))
    return exp(fsum(map(log, medians_s)) / len(medians_s)) if medians_s else None


def _gpu_name(record: PartialRecord, gpus: Sequence[Any]) -> str:
    for result in record.results:
        for launch in launches_of(result.outcome):
            return launch.environment.device_name
    names = (gpu["name"].get("value") for gpu in gpus)
    return next((name for name in names if name), record.device)
