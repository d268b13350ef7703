"""A run from others is read whole: regular files of bounded size, within its folder, that its record names."""

import os
from pathlib import Path

import pytest

from sdbench.errors import RecordError, UserError
from sdbench.publish.archive import ARCHIVE_BYTES_MAX
from sdbench.publish.bundle import EXPORT_NAME, export_bundle
from sdbench.publish.destination import FolderDestination
from sdbench.publish.signature import SIGNATURE_BYTES_MAX
from sdbench.publish.transfer import SIGNATURE_NAME, publish_runs, pull_runs
from sdbench.store.bundle import encode_record
from sdbench.store.layout import TELEMETRY_BYTES_MAX
from sdbench.store.run import load_run
from sdbench.verification.verify import verify
from tests.records import make_record
from tests.runs import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run-1")
    return tmp_path / "run-1"


def make_sparse(path: Path, size_bytes: int) -> None:
    """Write a file of this size that takes no room."""
    with path.open("wb") as stream:
        stream.truncate(size_bytes)


def test_record_that_is_a_link_out_of_its_folder_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "record.json").rename(tmp_path / "elsewhere.json")
    (run / "record.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RecordError, match=r"'record\.json' is outside its folder"):
        load_run(run)


def test_telemetry_that_the_record_does_not_name_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "telemetry.jsonl").write_text("not sealed\n")
    (tmp_path / "record.json").write_bytes(encode_record(make_record(files=()).to_json_dict()))
    assert load_run(tmp_path).telemetry == ()


def test_named_file_beyond_its_limit_is_refused_before_it_is_read(run: Path) -> None:
    make_sparse(run / "telemetry.jsonl", TELEMETRY_BYTES_MAX + 1)
    with pytest.raises(RecordError, match="larger than the limit of 128 MiB"):
        load_run(run)


def test_kept_export_beyond_its_limit_is_refused_before_it_is_read(run: Path) -> None:
    make_sparse(run / EXPORT_NAME, ARCHIVE_BYTES_MAX + 1)
    with pytest.raises(UserError, match="larger than the limit of 256 MiB"):
        export_bundle(run, {})


def test_archive_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(RecordError, match="not a regular file"):
        verify(str(tmp_path / "pipe.zip"))
    with pytest.raises(RecordError, match="not a regular file"):
        FolderDestination(tmp_path).read("pipe.zip", 1)


def test_signature_beyond_its_limit_is_refused_before_it_is_read(run: Path, tmp_path: Path) -> None:
    source = FolderDestination(tmp_path / "reference")
    publish_runs([run], source, {})
    (transfer,) = pull_runs(source, tmp_path / "here", lambda _: True)
    make_sparse(Path(transfer.place) / SIGNATURE_NAME, SIGNATURE_BYTES_MAX + 1)
    with pytest.raises(RecordError, match="larger than the limit"):
        verify(transfer.place)
