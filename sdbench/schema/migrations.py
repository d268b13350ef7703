"""Stored records of earlier versions into today's: each step is ``dict vN -> vN+1``."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sdbench.errors import RecordError
from sdbench.schema.versions import RECORD_SCHEMA

Migration = Callable[[dict[str, Any]], dict[str, Any]]

# A step is added here with a golden file in tests/golden. Version 1 is the first to be released.
RECORD_MIGRATIONS: dict[int, Migration] = {}

_SCHEMA = re.compile(r"sdbench/record/v([1-9][0-9]{0,5})")
CURRENT_VERSION = int(RECORD_SCHEMA.rpartition("v")[2])
# Written before the first release, when versions were counted up to 6. Remove this when version 2 is released.
_PRE_RELEASE_VERSIONS = range(2, 7)


def migrate_record(
    stored: dict[str, Any],
    name: str,
    migrations: Mapping[int, Migration] = RECORD_MIGRATIONS,
    current: int = CURRENT_VERSION,
) -> dict[str, Any]:
    """Return a stored record in the current version's shape; check its seal before, on what was stored.

    Raises:
        RecordError: it is not an sdbench record, of a future version, or of one that no migration starts from.
    """
    version = refuse_other_versions(stored.get("schema"), name, current)
    while version < current:
        if version not in migrations:
            raise RecordError(f"{name}: record version {version} is not supported; use the sdbench that wrote it")
        stored = migrations[version](stored)
        version += 1
    return stored


def refuse_other_versions(schema: Any, name: str, current: int = CURRENT_VERSION) -> int:
    """Return the version of a stored record by its ``schema``.

    Raises:
        RecordError: it is not an sdbench record, of a future version, or of a format before the first release.
    """
    match = _SCHEMA.fullmatch(str(schema))
    if match is None:
        raise RecordError(f"{name}: not an sdbench record: schema is {schema!r}, not {RECORD_SCHEMA!r}")
    version = int(match[1])
    if version > current and current == 1 and version in _PRE_RELEASE_VERSIONS:
        raise RecordError(f"{name}: record format v{version} is from before the first release; measure again")
    if version > current:
        raise RecordError(f"{name}: record version {version} is newer than the supported {current}; update sdbench")
    return version
