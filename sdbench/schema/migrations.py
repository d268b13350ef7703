"""Stored records of earlier versions into today's: each step is ``dict vN -> vN+1``."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sdbench.errors import RecordError
from sdbench.schema.base import sha256_of
from sdbench.schema.versions import RECORD_SCHEMA

Migration = Callable[[dict[str, Any]], dict[str, Any]]

# What version 1 could not say it did not know, because only measured records existed.
_KNOWN_SINCE_V2 = {
    "hardware": ("architecture",),
    "configuration": ("affinity_cpu_count",),
    "software": ("python", "packages", "environment", "sdbench_version"),
}

_CONDITIONS_OF_V4 = (
    "throttle_shares",
    "clock_spread_ratio",
    "others_cpu_ratio",
    "load1_mean",
    "steal_ratio",
    "cpu_pressure_ratio",
    "memory_pressure_ratio",
    "foreign_gpu_process_count",
)


def _to_v2(record: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has imported records, studies and exports; the fingerprint's hashes follow its new shape."""
    fingerprint = dict(record["fingerprint"])
    for part, names in _KNOWN_SINCE_V2.items():
        known = {name: {"status": "known", "value": fingerprint[part][name]} for name in names}
        fingerprint[part] = fingerprint[part] | known
        fingerprint[f"{part}_sha256"] = sha256_of(fingerprint[part])
    return record | {
        "schema": "sdbench/record/v2",
        "origin": "measured",
        "wall_s": {"status": "known", "value": record["wall_s"]},
        "fingerprint": fingerprint,
        "results": [_result_to_v2(result) for result in record["results"]],
    }


def _result_to_v2(result: dict[str, Any]) -> dict[str, Any]:
    batch = result["planned"]["experiment"]["batch"]
    outcome = dict(result["outcome"])
    for name in ("launches", "partial"):
        if name in outcome:
            outcome[name] = [launch | {"batch": batch, "exports": [], "study": None} for launch in outcome[name]]
    return result | {"outcome": outcome}


def _to_v3(record: dict[str, Any]) -> dict[str, Any]:
    """Version 3 knows the container's image and engine, and every libcuda that could be loaded."""
    unknown = {"status": "unknown", "reason": _reason(record, 3)}
    fingerprint = dict(record["fingerprint"])
    fingerprint["software"] = fingerprint["software"] | dict.fromkeys(
        ("gpu_libcuda_found", "image_id", "container_engine"), unknown
    )
    fingerprint["software_sha256"] = sha256_of(fingerprint["software"])
    return record | {"schema": "sdbench/record/v3", "fingerprint": fingerprint}


def _to_v4(record: dict[str, Any]) -> dict[str, Any]:
    """Version 4 knows what went on beside each launch, how far results can be trusted, sessions and boots."""
    unknown = {"status": "unknown", "reason": _reason(record, 4)}
    fingerprint = dict(record["fingerprint"])
    fingerprint["state"] = {"boot_hmac": unknown} | fingerprint["state"]
    return record | {
        "schema": "sdbench/record/v4",
        "session": None,
        "fingerprint": fingerprint,
        "results": [_result_to_v4(result, unknown) for result in record["results"]],
    }


def _result_to_v4(result: dict[str, Any], unknown: dict[str, str]) -> dict[str, Any]:
    outcome = dict(result["outcome"])
    for name in ("launches", "partial"):
        if name in outcome:
            conditions = dict.fromkeys(_CONDITIONS_OF_V4, unknown)
            outcome[name] = [launch | {"turn": None, "conditions": conditions} for launch in outcome[name]]
    return result | {"outcome": outcome, "trust": []}


def _to_v5(record: dict[str, Any]) -> dict[str, Any]:
    """Version 5 knows what a side of a session set."""
    session = record["session"]
    if session is not None:
        session = session | {"settings": {"status": "unknown", "reason": _reason(record, 5)}}
    return record | {"schema": "sdbench/record/v5", "session": session}


def _to_v6(record: dict[str, Any]) -> dict[str, Any]:
    """Version 6 knows what was withheld when a record left its machine, and devices measured together."""
    return record | {"schema": "sdbench/record/v6", "device_group": None, "exported": None}


def _reason(record: dict[str, Any], version: int) -> str:
    return (
        "not recorded by the source" if record["origin"] == "imported" else f"not read before record version {version}"
    )


# A step is added here with a golden file in tests/golden.
RECORD_MIGRATIONS: dict[int, Migration] = {1: _to_v2, 2: _to_v3, 3: _to_v4, 4: _to_v5, 5: _to_v6}

_SCHEMA = re.compile(r"sdbench/record/v([1-9][0-9]{0,5})")
CURRENT_VERSION = int(RECORD_SCHEMA.rpartition("v")[2])


def migrate_record(
    stored: dict[str, Any],
    name: str,
    migrations: Mapping[int, Migration] = RECORD_MIGRATIONS,
    current: int = CURRENT_VERSION,
) -> dict[str, Any]:
    """Return a stored record in the current version's shape; check its seal before, on what was stored.

    Raises:
        RecordError: it is no sdbench record, of a future version, or of one that no migration starts from.
    """
    version = refuse_other_versions(stored, name, current)
    while version < current:
        if version not in migrations:
            raise RecordError(
                f"{name}: record version {version} cannot be read any more; use the sdbench that wrote it"
            )
        stored = migrations[version](stored)
        version += 1
    return stored


def refuse_other_versions(stored: dict[str, Any], name: str, current: int = CURRENT_VERSION) -> int:
    """Return the version of a stored record.

    Raises:
        RecordError: it is no sdbench record, or of a future version.
    """
    match = _SCHEMA.fullmatch(str(stored.get("schema")))
    if match is None:
        raise RecordError(
            f"{name}: schema is {stored.get('schema')!r}, not {RECORD_SCHEMA!r}: this is no sdbench record"
        )
    version = int(match[1])
    if version > current:
        raise RecordError(
            f"{name}: record version {version} is newer than this sdbench reads ({current}); update sdbench"
        )
    return version
