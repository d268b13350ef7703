"""A finished run: its folder and record, and lazily its telemetry and images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field, ValidationError

from sdbench.errors import RecordError
from sdbench.schema.base import Count, Model
from sdbench.schema.outcome import Series
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record, read_named_file, record_path, verify_files
from sdbench.store.journal import decode_journal
from sdbench.store.layout import IMAGE_FOLDER, TELEMETRY_NAME


class LaunchTelemetry(Model):
    """The time series of one launch; ``unknown`` says why columns are missing, and is not published."""

    experiment_id: str
    index: Count
    series: tuple[Series, ...]
    unknown: dict[str, str] = Field(default_factory=dict)


def parse_telemetry(content: bytes, name: str) -> tuple[LaunchTelemetry, ...]:
    """Return the telemetry in the bytes of a ``telemetry.jsonl``; ``name`` stands for it in messages.

    Raises:
        RecordError: a line is damaged, or holds something else.
    """
    entries, _ = decode_journal(content, name)
    # A launch that was interrupted after its telemetry was written is measured again: the last one counts.
    latest: dict[tuple[str, int], LaunchTelemetry] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            launch = LaunchTelemetry.model_validate(entry, strict=False)
        except ValidationError as error:
            detail = error.errors()[0]
            place = ".".join(map(str, detail["loc"]))
            raise RecordError(f"{name}:{number}: {place}: {detail['msg']}; restore it from a copy") from None
        latest[launch.experiment_id, launch.index] = launch
    return tuple(latest.values())


@dataclass(frozen=True)
class Run:
    """The folder of a run and its sealed record."""

    folder: Path
    record: Record

    @cached_property
    def telemetry(self) -> tuple[LaunchTelemetry, ...]:
        """The telemetry of each launch; empty when the run has none.

        Raises:
            RecordError: the file is damaged, or holds something else.
        """
        if not any(named.path == TELEMETRY_NAME for named in self.record.files):
            return ()
        return parse_telemetry(read_named_file(self.folder, TELEMETRY_NAME), str(self.folder / TELEMETRY_NAME))

    @cached_property
    def images(self) -> Mapping[str, bytes]:
        """The bytes (WebP) of the run's images by their path within its folder."""
        return {
            named.path: read_named_file(self.folder, named.path)
            for named in self.record.files
            if named.path.startswith(f"{IMAGE_FOLDER}/") and (self.folder / named.path).is_file()
        }


def load_run(path: Path | str, *, check_seal: bool = True) -> Run:
    """Return the run at ``path``: its folder, or its ``record.json``.

    ``check_seal=False`` reads a record that was changed after it was sealed.

    Raises:
        RecordError: the record is missing, invalid or was changed, or one of its files is missing or was changed.
    """
    path = Path(path)
    record = load_record(path, check_seal=check_seal)
    run = Run(record_path(path).parent, record)
    verify_files(run.folder, record)
    return run
