"""The facts of a run for the index, filters and lists: its device, versions and origin."""

from collections.abc import Callable, Mapping
from typing import Any

from sdbench.schema.base import Known, Reading
from sdbench.schema.record import Record


def _known(reading: Reading[Any]) -> Any:
    return reading.value if isinstance(reading, Known) else None


def _version(record: Record, *names: str) -> str | None:
    packages = _known(record.fingerprint.software.packages) or ()
    versions = {item.name: _known(item.version) for item in packages if item.name in names}
    return next(filter(None, map(versions.get, names)), None)


# What a record gives of each fact; None is unknown.
FACTS: Mapping[str, Callable[[Record], str | int | bool | None]] = {
    "run_id": lambda record: record.run_id,
    "created_utc": lambda record: record.created_utc,
    "origin": lambda record: record.origin,
    "ended": lambda record: record.ended,
    "manifest": lambda record: record.request.manifest_name,
    "title": lambda record: record.manifest.title,
    "device": lambda record: record.device,
    "gpu": lambda record: record.device_name if record.device.startswith("cuda") else None,
    "cpu": lambda record: _known(record.fingerprint.hardware.cpu_model),
    "gpu_count": lambda record: len(_known(record.fingerprint.hardware.gpus) or ()),
    "machine": lambda record: record.fingerprint.hardware_sha256,
    "driver": lambda record: _known(record.fingerprint.software.gpu_kernel_driver),
    "libcuda": lambda record: _known(record.fingerprint.software.gpu_libcuda),
    "cuda": lambda record: _known(record.fingerprint.software.torch_cuda),
    "cudnn": lambda record: _known(record.fingerprint.software.cudnn),
    "torch": lambda record: _version(record, "torch"),
    "onnxruntime": lambda record: _version(record, "onnxruntime", "onnxruntime-gpu"),
    "diffusers": lambda record: _version(record, "diffusers"),
    "kernel": lambda record: _known(record.fingerprint.software.kernel),
    "image_digest": lambda record: _known(record.fingerprint.software.image_digest),
    "image_id": lambda record: _known(record.fingerprint.software.image_id),
    "sdbench_version": lambda record: _known(record.fingerprint.software.sdbench_version),
    "sdbench_commit": lambda record: _known(record.fingerprint.software.sdbench_commit),
    "published": lambda record: record.publication is not None,
    "seal": lambda record: record.seal,
}
