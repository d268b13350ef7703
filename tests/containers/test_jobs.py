"""What comes out of a container: plain files into the folder that was named, and nothing else."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdbench.containers import jobs
from sdbench.containers.jobs import collect, extract_within
from sdbench.errors import EnvironmentProblem


def archive_of(*members: tarfile.TarInfo) -> tarfile.TarFile:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as writer:
        for member in members:
            writer.addfile(member, io.BytesIO(b"x" * member.size))
    stream.seek(0)
    return tarfile.open(fileobj=stream)


def make_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    member.size = 1 if kind == tarfile.REGTYPE else 0
    return member


def test_files_and_folders_are_extracted(tmp_path: Path) -> None:
    with archive_of(make_member("run", tarfile.DIRTYPE), make_member("run/record.json")) as archive:
        extract_within(archive, tmp_path)
    assert (tmp_path / "run" / "record.json").read_text() == "x"


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_member("../outside"),
        lambda: make_member("/outside"),
        lambda: make_member("link", tarfile.SYMTYPE, "/etc/passwd"),
        lambda: make_member("hard", tarfile.LNKTYPE, "run"),
        lambda: make_member("fifo", tarfile.FIFOTYPE),
    ],
)
def test_what_leads_elsewhere_is_refused_whole(tmp_path: Path, make: Callable[[], tarfile.TarInfo]) -> None:
    with (
        archive_of(make_member("good"), make()) as archive,
        pytest.raises(EnvironmentProblem, match="not a plain file"),
    ):
        extract_within(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_are_kept_when_their_volume_is_already_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("docker.errors")

    def refuse(_name: str) -> None:
        raise errors.NotFound("no such volume")

    record = make_member("results/run/record.json")
    monkeypatch.setattr(jobs, "_read_results", lambda *_: archive_of(record))
    monkeypatch.setattr(jobs, "_keep", lambda folder, out, _suffix: out / folder.name)
    engine: Any = SimpleNamespace(client=SimpleNamespace(volumes=SimpleNamespace(get=refuse)))
    job: Any = SimpleNamespace(volume="gone")
    assert collect(engine, job, tmp_path / "out", "") == [tmp_path / "out" / "run"]
