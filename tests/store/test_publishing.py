"""Publish to a folder and to a loopback S3, pull from them: create-only, whole or not at all."""

import contextlib
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.store.archive import pack, unpack
from sdbench.store.bundle import load_record, verify_files
from sdbench.store.destination import Destination, FolderDestination, RemoteDestination, open_destination
from sdbench.store.publishing import publish_runs, pull_runs
from sdbench.store.signature import sign
from tests.runs import make_run

BUCKET = "bench"
MIB = 2**20


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir(BUCKET)
        yield f"s3://{BUCKET}"
        server.stop()


@pytest.fixture(params=["folder", "s3"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    if request.param == "folder":
        return open_destination(str(tmp_path / "published"))
    return open_destination(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    public = (tmp_path / "key.pub").read_text()
    (tmp_path / "signers").write_text(f'ann@example.org namespaces="sdbench" {public}')
    return tmp_path / "key"


def pull(source: Destination, out: Path, **options: Any) -> list[str]:
    wanted = options.pop("wanted", lambda _: True)
    transfers = list(pull_runs(source, out, wanted, **options))
    for transfer in transfers:
        if transfer.problem is not None:
            raise transfer.problem
    return [transfer.fate for transfer in transfers]


def test_run_goes_out_and_comes_back_whole(destination: Destination, tmp_path: Path) -> None:
    for name in ("run-1", "run-2"):
        make_run(tmp_path / name)
    first = publish_runs([tmp_path / "run-1", tmp_path / "run-2"], destination, {})
    assert [transfer.fate for transfer in first] == ["new", "new"]
    assert [transfer.fate for transfer in publish_runs([tmp_path / "run-1"], destination, {})] == ["already there"]
    assert sum(name.endswith(".zip") for name in destination.list_names()) == 2
    assert pull(destination, tmp_path / "out") == ["new", "new"]
    assert pull(destination, tmp_path / "out") == ["already there", "already there"]
    record = load_record(tmp_path / "out" / "run-1")
    verify_files(tmp_path / "out" / "run-1", record)
    name = f"run-1/{first[0].sha256}.zip"
    assert hashlib.sha256(destination.read(name, MIB)).hexdigest() == first[0].sha256


def test_of_racing_publishers_one_wins_and_all_are_told(destination: Destination, tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    publish_runs([tmp_path / "run-1"], FolderDestination(tmp_path / "elsewhere"), {})
    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda _: destination.create("run-1/x.zip", b"whole" * 1000), range(12)))
    assert made.count(True) == 1
    assert destination.read("run-1/x.zip", MIB) == b"whole" * 1000


def test_other_content_of_the_same_run_is_refused_and_nothing_replaced(
    destination: Destination, tmp_path: Path
) -> None:
    make_run(tmp_path / "a" / "run-1")
    make_run(tmp_path / "b" / "run-1", created_utc="2026-01-15T09:59:59Z")
    publish_runs([tmp_path / "a" / "run-1"], destination, {})
    before = {name: destination.read(name, MIB) for name in destination.list_names()}
    with pytest.raises(UserError, match=r"run-1: .* has this run with other content"):
        publish_runs([tmp_path / "b" / "run-1"], destination, {})
    assert {name: destination.read(name, MIB) for name in destination.list_names()} == before


def test_object_of_ten_gigabytes_is_refused_before_it_is_read(destination: Destination) -> None:
    destination.create("run-1/x.zip", b"12345")
    destination.list_names()
    with pytest.raises(RecordError, match="too large for what it says it is"):
        destination.read("run-1/x.zip", 4)


def test_sparse_file_of_ten_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "published" / "run-1" / f"{'0' * 64}.zip"
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)
    with pytest.raises(RecordError, match="GiB, too large"):
        pull(open_destination(str(tmp_path / "published")), tmp_path / "out")


def test_damaged_bundle_keeps_no_other_from_being_pulled(tmp_path: Path) -> None:
    source = open_destination(str(tmp_path / "published"))
    for name in ("run-1", "run-2", "run-3"):
        make_run(tmp_path / name)
        publish_runs([tmp_path / name], source, {})
    (damaged,) = (tmp_path / "published" / "run-2").glob("*.zip")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    fates = {transfer.run_id: transfer.fate for transfer in pull_runs(source, tmp_path / "out", lambda _: True)}
    assert fates == {"run-1": "new", "run-2": "refused", "run-3": "new"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run-1", "run-3"]


def test_pulled_run_without_its_record_is_not_taken_as_there(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "published"))
    publish_runs([tmp_path / "run-1"], source, {})
    pull(source, tmp_path / "out")
    (tmp_path / "out/run-1/record.json").unlink()
    with pytest.raises(UserError, match="not whole any more"):
        pull(source, tmp_path / "out")


def test_twins_that_raced_are_not_pulled(tmp_path: Path) -> None:
    published = tmp_path / "published"
    for side in ("a", "b"):
        make_run(tmp_path / side / "run-1", created_utc=f"2026-01-15T09:59:5{side == 'a':d}Z")
        publish_runs([tmp_path / side / "run-1"], open_destination(str(tmp_path / f"{side}-out")), {})
        shutil.copytree(tmp_path / f"{side}-out", published, dirs_exist_ok=True)
    with pytest.raises(UserError, match="run run-1 is there with two contents"):
        pull(open_destination(str(published)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_run_that_is_here_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    for side in ("a", "b"):
        make_run(tmp_path / side / "run-1", created_utc=f"2026-01-15T09:59:5{side == 'a':d}Z")
        publish_runs([tmp_path / side / "run-1"], open_destination(str(tmp_path / f"{side}-out")), {})
    assert pull(open_destination(str(tmp_path / "a-out")), tmp_path / "out") == ["new"]
    before = (tmp_path / "out/run-1/record.json").read_bytes()
    with pytest.raises(UserError, match="has this run with other content"):
        pull(open_destination(str(tmp_path / "b-out")), tmp_path / "out")
    assert (tmp_path / "out/run-1/record.json").read_bytes() == before


def test_run_that_was_measured_here_is_not_pulled_again(tmp_path: Path) -> None:
    make_run(tmp_path / "results" / "run-1", run_id="run-1-01234567")
    publish_runs([tmp_path / "results" / "run-1"], open_destination(str(tmp_path / "out")), {})
    assert pull(open_destination(str(tmp_path / "out")), tmp_path / "results") == ["already there"]


def test_object_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "published"))
    (sent,) = publish_runs([tmp_path / "run-1"], source, {})
    content = source.read(f"run-1/{sent.sha256}.zip", MIB)
    shutil.rmtree(tmp_path / "published")
    source.create(f"run-2/{sent.sha256}.zip", content)
    with pytest.raises(RecordError, match=r"run-2/.* is run 'run-1'"):
        pull(source, tmp_path / "out")
    shutil.rmtree(tmp_path / "published")
    source.create(f"run-1/{'0' * 64}.zip", content)
    with pytest.raises(RecordError, match="the name and the content do not agree"):
        pull(source, tmp_path / "out")
    shutil.rmtree(tmp_path / "published")
    source.create(f"run-1/{sent.sha256}.zip", content[:-40])
    with pytest.raises(RecordError, match="not a sound archive"):
        pull(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_run_id_that_is_a_path_never_becomes_a_folder(tmp_path: Path) -> None:
    record = make_run(tmp_path / "run-1", run_id="../../escaped")
    assert record.run_id == "../../escaped"
    with pytest.raises((RecordError, UserError, EnvironmentProblem)):
        publish_runs([tmp_path / "run-1"], open_destination(str(tmp_path / "deep" / "er" / "published")), {})
    assert not list(tmp_path.rglob("escaped*"))


def test_what_is_filtered_out_is_not_written(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "published"))
    publish_runs([tmp_path / "run-1"], source, {})
    assert pull(source, tmp_path / "out", wanted=lambda bundle: bundle.record.run_id != "run-1") == ["filtered out"]
    assert not (tmp_path / "out").exists()


def test_signed_bundle_is_told_from_an_unsigned_and_a_forged_one(tmp_path: Path, key: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "published"))
    signers = tmp_path / "signers"
    publish_runs([tmp_path / "run-1"], source, {})
    with pytest.raises(RecordError, match="is not signed"):
        pull(source, tmp_path / "out", signers=signers, signed_only=True)
    (sent,) = publish_runs([tmp_path / "run-1"], source, {}, key)
    assert (sent.fate, sent.is_signed_now) == ("already there", True)
    (again,) = publish_runs([tmp_path / "run-1"], source, {}, key)
    assert (again.fate, again.is_signed_now) == ("already there", False)
    assert pull(source, tmp_path / "out", signers=signers, signed_only=True) == ["new"]
    signature = tmp_path / "published" / "run-1" / f"{sent.sha256}.zip.sig"
    signature.write_bytes(sign(b"other bytes", key))
    with pytest.raises(RecordError, match="the signature is not of these bytes"):
        pull(source, tmp_path / "out2", signers=signers, signed_only=True)
    signature.write_bytes(sign(source.read(f"run-1/{sent.sha256}.zip", MIB), key))
    signers.write_text("")
    with pytest.raises(RecordError, match=r"signed by a key that .* does not name"):
        pull(source, tmp_path / "out3", signers=signers)
    assert not (tmp_path / "out2").exists()
    assert not (tmp_path / "out3").exists()


def test_bundle_with_changed_content_and_a_fitting_name_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "published"))
    (sent,) = publish_runs([tmp_path / "run-1"], source, {})
    files = unpack(source.read(f"run-1/{sent.sha256}.zip", MIB), "it")
    forged = pack(files | {"record.json": files["record.json"].replace(b'"complete"', b'"paused"', 1)})
    shutil.rmtree(tmp_path / "published")
    source.create(f"run-1/{hashlib.sha256(forged).hexdigest()}.zip", forged)
    with pytest.raises(RecordError, match="the seal does not match"):
        pull(source, tmp_path / "out")


class Overwriting:
    """A store that takes the wish to create only, and overwrites."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        assert mode == "create"
        self.objects[path] = content

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        return self.objects[path][start:end]

    def find(self, _: str, *, detail: bool) -> dict[str, dict[str, int]]:
        assert detail
        return {name: {"size": len(content)} for name, content in self.objects.items()}

    def size(self, path: str) -> int:
        return len(self.objects[path])

    def rm(self, paths: list[str]) -> None:
        for path in paths:
            del self.objects[path]

    def invalidate_cache(self) -> None:
        pass

    def _strip_protocol(self, path: str) -> str:
        return path


def test_store_that_overwrites_is_refused_before_a_run_is_sent(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    store = Overwriting()
    with pytest.raises(EnvironmentProblem, match="does not keep to create-only writes"):
        publish_runs([tmp_path / "run-1"], RemoteDestination("odd://store", store, "root"), {})
    assert not store.objects


class LookingFirst(Overwriting):
    """A store that looks whether there is an object, and then writes: two that look at once both write."""

    def __init__(self) -> None:
        super().__init__()
        self.writers, self.together = 0, threading.Barrier(6)

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        if path in self.objects:
            raise FileExistsError
        self.writers += 1
        if self.writers > 1:
            # The first writes alone; the racing ones have all looked before one of them writes.
            self.together.wait(10)
        super().pipe_file(path, content, mode)


def test_store_that_looks_and_then_writes_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="does not keep to create-only writes"):
        RemoteDestination("odd://store", LookingFirst(), "root").probe()


def test_missing_and_refused_credentials_are_said_in_one_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(EnvironmentProblem, match="check the credentials") as caught:
        open_destination(f"{s3}/x").list_names()
    assert "\n" not in str(caught.value)
    s3fs.S3FileSystem.clear_instance_cache()


def test_missing_bucket_is_said_in_one_line(s3: str) -> None:
    with pytest.raises(EnvironmentProblem, match="check the name of the bucket"):
        open_destination(s3.replace(BUCKET, "no-such-bucket")).create("a/b.zip", b"")


def test_store_out_of_reach_is_said_in_one_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(EnvironmentProblem, match="check the network and run the same command again"):
            open_destination(f"{s3}/x").create("a/b.zip", b"")
    s3fs.S3FileSystem.clear_instance_cache()


def test_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(UserError, match="another URL that fsspec knows"):
        open_destination("nosuch://bucket")


def test_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        FolderDestination(tmp_path / "file" / "deeper").create("a/b.zip", b"")


def test_draft_that_a_crash_left_is_neither_listed_nor_pulled(tmp_path: Path) -> None:
    folder = tmp_path / "published" / "run-1"
    folder.mkdir(parents=True)
    (folder / f".{'0' * 64}.zip.0123").write_bytes(b"half")
    source = open_destination(str(tmp_path / "published"))
    assert source.list_names() == ()
    with pytest.raises(UserError, match="no published run is there"):
        pull(source, tmp_path / "out")


def test_two_contents_of_one_run_in_one_command_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "run-1")
    make_run(tmp_path / "b" / "run-1", created_utc="2026-01-15T09:59:59Z")
    source = open_destination(str(tmp_path / "published"))
    with pytest.raises(UserError, match="has this run with other content"):
        publish_runs([tmp_path / "a" / "run-1", tmp_path / "b" / "run-1"], source, {})
    assert source.list_names() == ()


def test_of_publishers_who_race_with_different_contents_one_wins(destination: Destination, tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        paths.append(tmp_path / str(number) / "run-1")
        make_run(paths[-1], created_utc=f"2026-01-15T09:59:5{number}Z")

    class Blind:
        """What every writer sees who looks before any other has written."""

        def __init__(self) -> None:
            self.url = destination.url
            self.looks = 0

        def list_names(self) -> tuple[str, ...]:
            self.looks += 1
            return () if self.looks == 1 else destination.list_names()

        def __getattr__(self, name: str) -> Any:
            return getattr(destination, name)

    def publish(path: Path) -> str:
        try:
            return publish_runs([path], Blind(), {})[0].fate
        except UserError as problem:
            return "refused" if "nothing is replaced" in str(problem) else str(problem)

    with ThreadPoolExecutor(6) as pool:
        fates = list(pool.map(publish, paths))
    assert sorted(fates) == ["new", *["refused"] * 5]
    assert sum(name.endswith(".zip") for name in destination.list_names()) == 1
    assert pull(destination, tmp_path / "out") == ["new"]


def test_signature_is_asked_for_though_the_run_is_here(tmp_path: Path, key: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "published"))
    publish_runs([tmp_path / "run-1"], source, {})
    assert pull(source, tmp_path / "out") == ["new"]
    with pytest.raises(RecordError, match="is not signed"):
        pull(source, tmp_path / "out", signers=tmp_path / "signers", signed_only=True)
    publish_runs([tmp_path / "run-1"], source, {}, key)
    assert pull(source, tmp_path / "out", signers=tmp_path / "signers", signed_only=True) == ["already there"]


def test_run_that_was_measured_here_is_told_from_another_of_its_id(tmp_path: Path) -> None:
    run_id = "run-20260115T100000Z-12345678"
    here = tmp_path / "results" / run_id.rpartition("-")[0]
    make_run(here, run_id=run_id)
    source = open_destination(str(tmp_path / "published"))
    publish_runs([here], source, {})
    assert pull(source, tmp_path / "results") == ["already there"]
    make_run(tmp_path / "other", run_id=run_id, created_utc="2026-01-15T09:59:59Z")
    another = open_destination(str(tmp_path / "elsewhere"))
    publish_runs([tmp_path / "other"], another, {})
    with pytest.raises(UserError, match="nothing is replaced: move it away"):
        pull(another, tmp_path / "results")


class Answering(Overwriting):
    """A store that answers a write as S3 does: with an error that says why in a response."""

    def __init__(self, *codes: str) -> None:
        super().__init__()
        self.codes = list(codes)

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        if self.codes:
            cause = Exception("an answer")
            cause.response = {"Error": {"Code": self.codes.pop(0)}}  # type: ignore[attr-defined]
            raise OSError("the library's own words") from cause
        super().pipe_file(path, content, mode)


def test_conflict_of_racing_writers_is_tried_again_and_a_winner_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.store.destination._CONFLICT_PAUSES_S", (0.0, 0.0))
    conflict = "ConditionalRequestConflict"
    assert RemoteDestination("odd://store", Answering(conflict, conflict), "root").create("a/b.zip", b"1")
    assert not RemoteDestination("odd://store", Answering(conflict, "PreconditionFailed"), "root").create("a", b"1")
    with pytest.raises(EnvironmentProblem, match="check the credentials"):
        RemoteDestination("odd://store", Answering("ExpiredToken"), "root").create("a", b"1")
    with pytest.raises(EnvironmentProblem, match="run the same command again"):
        RemoteDestination("odd://store", Answering(*[conflict] * 3), "root").create("a", b"1")


def test_passwords_in_addresses_are_not_shown() -> None:
    with pytest.raises((EnvironmentProblem, UserError)) as caught:
        open_destination("nosuch://ann:hunter2@example.org/x")
    assert "hunter2" not in str(caught.value)
    assert RemoteDestination("s3://ann:hunter2@example.org/x", None, "").url == "s3://example.org/x"


class Liar(http.server.BaseHTTPRequestHandler):
    """A web server that says one size and sends more; it lists nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()
        with contextlib.suppress(OSError):
            for _ in range(64):
                self.wfile.write(b"x" * MIB)

    def answer(self) -> None:
        self.send_response(200 if self.path.endswith(".zip") else 404)
        if self.command == "HEAD":
            self.send_header("Content-Length", "100")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_server_that_sends_more_than_it_said_is_refused() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        source = open_destination(f"http://127.0.0.1:{server.server_port}/run-1")
        with pytest.raises(RecordError, match="too large for what it says it is"):
            source.read("a.zip", 1000)
        assert source.find("a.zip.sig", 1000) is None
    finally:
        server.shutdown()
        server.server_close()
