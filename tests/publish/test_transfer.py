"""Publish to a folder and to a loopback S3, pull from them: create-only, whole or not at all."""

import base64
import contextlib
import hashlib
import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from moto.server import ThreadedMotoServer
from obstore.exceptions import AlreadyExistsError
from obstore.store import MemoryStore

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.publish.archive import pack, unpack
from sdbench.publish.bucket import BucketDestination
from sdbench.publish.destination import Destination, FolderDestination
from sdbench.publish.signature import sign
from sdbench.publish.transfer import open_destination, publish_runs, pull_runs
from sdbench.store.bundle import load_record, verify_files
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
        address = f"{variables['AWS_ENDPOINT_URL']}/{BUCKET}"
        urllib.request.urlopen(urllib.request.Request(address, method="PUT")).close()
        yield f"s3://{BUCKET}"
        server.stop()


@pytest.fixture(params=["folder", "s3"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    if request.param == "folder":
        return open_destination(str(tmp_path / "reference"))
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


def test_run_is_published_and_pulled_unchanged(destination: Destination, tmp_path: Path) -> None:
    for name in ("run-1", "run-2"):
        make_run(tmp_path / name)
    first = publish_runs([tmp_path / "run-1", tmp_path / "run-2"], destination, {})
    assert [transfer.fate for transfer in first] == ["new", "new"]
    assert [transfer.fate for transfer in publish_runs([tmp_path / "run-1"], destination, {})] == ["already present"]
    assert sum(name.endswith(".zip") for name in destination.list_sizes()) == 2
    assert pull(destination, tmp_path / "out") == ["new", "new"]
    assert pull(destination, tmp_path / "out") == ["already present", "already present"]
    record = load_record(tmp_path / "out" / "run-1")
    verify_files(tmp_path / "out" / "run-1", record)
    name = f"run-1/{first[0].sha256}.zip"
    assert hashlib.sha256(destination.read(name, MIB)).hexdigest() == first[0].sha256


def test_one_of_racing_publishers_wins_and_all_learn_it(destination: Destination, tmp_path: Path) -> None:
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
    before = {name: destination.read(name, MIB) for name in destination.list_sizes()}
    with pytest.raises(UserError, match=r"run-1: .* has this run with other content"):
        publish_runs([tmp_path / "b" / "run-1"], destination, {})
    assert {name: destination.read(name, MIB) for name in destination.list_sizes()} == before


def test_object_of_ten_gigabytes_is_refused_before_it_is_read(destination: Destination) -> None:
    destination.create("run-1/x.zip", b"12345")
    destination.list_sizes()
    with pytest.raises(RecordError, match="larger than the limit"):
        destination.read("run-1/x.zip", 4)


def test_sparse_file_of_ten_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference" / "run-1" / f"{'0' * 64}.zip"
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)
    with pytest.raises(RecordError, match="larger than the limit of 256 MiB"):
        pull(open_destination(str(tmp_path / "reference")), tmp_path / "out")


def test_bundles_next_to_a_damaged_one_are_pulled(tmp_path: Path) -> None:
    source = open_destination(str(tmp_path / "reference"))
    for name in ("run-1", "run-2", "run-3"):
        make_run(tmp_path / name)
        publish_runs([tmp_path / name], source, {})
    (damaged,) = (tmp_path / "reference" / "run-2").glob("*.zip")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    fates = {transfer.run_id: transfer.fate for transfer in pull_runs(source, tmp_path / "out", lambda _: True)}
    assert fates == {"run-1": "new", "run-2": "refused", "run-3": "new"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run-1", "run-3"]


def test_pulled_run_without_its_record_is_incomplete(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "reference"))
    publish_runs([tmp_path / "run-1"], source, {})
    pull(source, tmp_path / "out")
    (tmp_path / "out/run-1/record.json").unlink()
    with pytest.raises(UserError, match="incomplete now"):
        pull(source, tmp_path / "out")


def test_twins_that_raced_are_not_pulled(tmp_path: Path) -> None:
    published = tmp_path / "reference"
    for publisher in ("a", "b"):
        make_run(tmp_path / publisher / "run-1", created_utc=f"2026-01-15T09:59:5{publisher == 'a':d}Z")
        publish_runs([tmp_path / publisher / "run-1"], open_destination(str(tmp_path / f"{publisher}-out")), {})
        shutil.copytree(tmp_path / f"{publisher}-out", published, dirs_exist_ok=True)
    with pytest.raises(UserError, match="run run-1 has two contents"):
        pull(open_destination(str(published)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pulled_run_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    for publisher in ("a", "b"):
        make_run(tmp_path / publisher / "run-1", created_utc=f"2026-01-15T09:59:5{publisher == 'a':d}Z")
        publish_runs([tmp_path / publisher / "run-1"], open_destination(str(tmp_path / f"{publisher}-out")), {})
    assert pull(open_destination(str(tmp_path / "a-out")), tmp_path / "out") == ["new"]
    before = (tmp_path / "out/run-1/record.json").read_bytes()
    with pytest.raises(UserError, match="has this run with other content"):
        pull(open_destination(str(tmp_path / "b-out")), tmp_path / "out")
    assert (tmp_path / "out/run-1/record.json").read_bytes() == before


def test_run_that_was_measured_here_is_not_pulled_again(tmp_path: Path) -> None:
    make_run(tmp_path / "results" / "run-1", run_id="run-1-01234567")
    publish_runs([tmp_path / "results" / "run-1"], open_destination(str(tmp_path / "out")), {})
    assert pull(open_destination(str(tmp_path / "out")), tmp_path / "results") == ["already present"]


def test_object_with_the_name_of_another_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "reference"))
    (sent,) = publish_runs([tmp_path / "run-1"], source, {})
    content = source.read(f"run-1/{sent.sha256}.zip", MIB)
    shutil.rmtree(tmp_path / "reference")
    source.create(f"run-2/{sent.sha256}.zip", content)
    with pytest.raises(RecordError, match=r"run-2/.* is run 'run-1'"):
        pull(source, tmp_path / "out")
    shutil.rmtree(tmp_path / "reference")
    source.create(f"run-1/{'0' * 64}.zip", content)
    with pytest.raises(RecordError, match="the name and the content do not agree"):
        pull(source, tmp_path / "out")
    shutil.rmtree(tmp_path / "reference")
    source.create(f"run-1/{sent.sha256}.zip", content[:-40])
    with pytest.raises(RecordError, match="not a valid archive"):
        pull(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_run_id_that_is_a_path_never_becomes_a_folder(tmp_path: Path) -> None:
    record = make_run(tmp_path / "run-1", run_id="../../escaped")
    assert record.run_id == "../../escaped"
    with pytest.raises((RecordError, UserError, EnvironmentProblem)):
        publish_runs([tmp_path / "run-1"], open_destination(str(tmp_path / "deep" / "er" / "reference")), {})
    assert not list(tmp_path.rglob("escaped*"))


def test_run_that_is_filtered_out_is_not_written(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "reference"))
    publish_runs([tmp_path / "run-1"], source, {})
    assert pull(source, tmp_path / "out", wanted=lambda bundle: bundle.record.run_id != "run-1") == ["filtered out"]
    assert not (tmp_path / "out").exists()


def test_unsigned_and_forged_bundles_are_refused_where_signatures_are_required(tmp_path: Path, key: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "reference"))
    signers = tmp_path / "signers"
    publish_runs([tmp_path / "run-1"], source, {})
    with pytest.raises(RecordError, match="is not signed"):
        pull(source, tmp_path / "out", signers=signers, signed_only=True)
    (sent,) = publish_runs([tmp_path / "run-1"], source, {}, key)
    assert (sent.fate, sent.is_signed_now) == ("already present", True)
    (again,) = publish_runs([tmp_path / "run-1"], source, {}, key)
    assert (again.fate, again.is_signed_now) == ("already present", False)
    assert pull(source, tmp_path / "out", signers=signers, signed_only=True) == ["new"]
    signature = tmp_path / "reference" / "run-1" / f"{sent.sha256}.zip.sig"
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
    source = open_destination(str(tmp_path / "reference"))
    (sent,) = publish_runs([tmp_path / "run-1"], source, {})
    files = unpack(source.read(f"run-1/{sent.sha256}.zip", MIB), "it")
    forged = pack(files | {"record.json": files["record.json"].replace(b'"complete"', b'"paused"', 1)})
    shutil.rmtree(tmp_path / "reference")
    source.create(f"run-1/{hashlib.sha256(forged).hexdigest()}.zip", forged)
    with pytest.raises(RecordError, match="the seal does not match"):
        pull(source, tmp_path / "out")


class Overwriting(MemoryStore):
    """A store that accepts create-only writes, and overwrites."""

    def put(self, path: str, file: bytes, *, mode: str) -> None:  # type: ignore[override]
        assert mode == "create"
        super().put(path, file)


def test_store_that_overwrites_is_refused_before_a_run_is_sent(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    store = Overwriting()
    with pytest.raises(EnvironmentProblem, match="does not keep to create-only writes"):
        publish_runs([tmp_path / "run-1"], BucketDestination("odd://store", store), {})
    assert not list(store.list())


class CheckingFirst(Overwriting):
    """A store that checks for an object and then writes: two writers at once both write."""

    def __init__(self) -> None:
        self.writers, self.together = 0, threading.Barrier(6)

    def put(self, path: str, file: bytes, *, mode: str) -> None:  # type: ignore[override]
        with contextlib.suppress(FileNotFoundError):
            self.head(path)
            raise AlreadyExistsError
        self.writers += 1
        if self.writers > 1:
            # The first writes alone; the racing ones have all checked before one of them writes.
            self.together.wait(10)
        super().put(path, file, mode=mode)


def test_store_that_checks_and_then_writes_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="does not keep to create-only writes"):
        BucketDestination("odd://store", CheckingFirst()).probe()


def test_missing_credentials_are_reported_in_one_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(EnvironmentProblem, match=r"no AWS credentials found; set .*AWS_SKIP_SIGNATURE=true") as caught:
        open_destination(f"{s3}/x").list_sizes()
    assert "\n" not in str(caught.value)
    with monkeypatch.context() as public:
        public.setenv("AWS_SKIP_SIGNATURE", "true")
        assert open_destination(f"{s3}/public").list_sizes() == {}
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(EnvironmentProblem, match=r"\(nobody\) could not be found; check the credentials"):
        open_destination(f"{s3}/x")


def test_profile_of_the_user_is_used(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    (tmp_path / "config").write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {endpoint}\n")
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = c\naws_secret_access_key = d\n")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert open_destination(f"{s3}/profile").create("a/b.zip", b"1")


@pytest.mark.parametrize(
    "use",
    [lambda bucket: bucket.create("a/b.zip", b""), lambda bucket: bucket.probe(), lambda bucket: bucket.list_sizes()],
)
def test_missing_bucket_is_reported_in_one_line(s3: str, use: Any) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        use(open_destination(s3.replace(BUCKET, "no-such-bucket")))
    assert str(caught.value) == "s3://no-such-bucket: the bucket does not exist; create it, or correct its name"


def test_store_out_of_reach_is_reported_in_one_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.publish.bucket._RETRIES_MAX", 0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(EnvironmentProblem, match="check the network and run the same command again"):
            open_destination(f"{s3}/x").create("a/b.zip", b"")


def test_other_kinds_of_buckets_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_destination("gs://ann:hunter2@bench/runs").url == "gs://bench/runs"
    with pytest.raises(EnvironmentProblem, match=r"Account must be specified; check the address, and the environment"):
        open_destination("az://bench/runs")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "lab")
    for address in ("az://bench/runs", "azure://bench/runs"):
        assert open_destination(address).url == address


def test_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(UserError, match="unknown kind of store 'nosuch'"):
        open_destination("nosuch://bucket")


@pytest.mark.parametrize("address", ["", " ", "https://", "https:///runs", "s3://", "file://"])
def test_address_without_a_place_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{address!r} names no folder, bucket or server")):
        open_destination(address)


def test_folder_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        FolderDestination(tmp_path / "file" / "deeper").create("a/b.zip", b"")


def test_draft_of_a_crashed_publisher_is_neither_listed_nor_pulled(tmp_path: Path) -> None:
    folder = tmp_path / "reference" / "run-1"
    folder.mkdir(parents=True)
    (folder / f".{'0' * 64}.zip.0123").write_bytes(b"half")
    source = open_destination(str(tmp_path / "reference"))
    assert source.list_sizes() == {}
    with pytest.raises(UserError, match="has no published run"):
        pull(source, tmp_path / "out")


def test_two_contents_of_one_run_in_one_command_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "run-1")
    make_run(tmp_path / "b" / "run-1", created_utc="2026-01-15T09:59:59Z")
    source = open_destination(str(tmp_path / "reference"))
    with pytest.raises(UserError, match="has this run with other content"):
        publish_runs([tmp_path / "a" / "run-1", tmp_path / "b" / "run-1"], source, {})
    assert source.list_sizes() == {}


def test_one_of_publishers_who_race_with_different_contents_wins(destination: Destination, tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        paths.append(tmp_path / str(number) / "run-1")
        make_run(paths[-1], created_utc=f"2026-01-15T09:59:5{number}Z")

    class Blind:
        """The view of every writer who lists before any other has written."""

        def __init__(self) -> None:
            self.url = destination.url
            self.list_count = 0

        def list_sizes(self) -> Mapping[str, int]:
            self.list_count += 1
            return {} if self.list_count == 1 else destination.list_sizes()

        def __getattr__(self, name: str) -> Any:
            return getattr(destination, name)

    def publish(path: Path) -> str:
        try:
            return publish_runs([path], cast("Destination", Blind()), {})[0].fate
        except UserError as problem:
            return "refused" if "nothing is replaced" in str(problem) else str(problem)

    with ThreadPoolExecutor(6) as pool:
        fates = list(pool.map(publish, paths))
    assert sorted(fates) == ["new", *["refused"] * 5]
    assert sum(name.endswith(".zip") for name in destination.list_sizes()) == 1
    assert pull(destination, tmp_path / "out") == ["new"]


def test_signature_is_required_although_the_run_was_pulled_before(tmp_path: Path, key: Path) -> None:
    make_run(tmp_path / "run-1")
    source = open_destination(str(tmp_path / "reference"))
    publish_runs([tmp_path / "run-1"], source, {})
    assert pull(source, tmp_path / "out") == ["new"]
    with pytest.raises(RecordError, match="is not signed"):
        pull(source, tmp_path / "out", signers=tmp_path / "signers", signed_only=True)
    publish_runs([tmp_path / "run-1"], source, {}, key)
    assert pull(source, tmp_path / "out", signers=tmp_path / "signers", signed_only=True) == ["already present"]


def test_run_that_was_measured_here_is_not_confused_with_another_of_its_id(tmp_path: Path) -> None:
    run_id = "run-20260115T100000Z-12345678"
    here = tmp_path / "results" / run_id.rpartition("-")[0]
    make_run(here, run_id=run_id)
    source = open_destination(str(tmp_path / "reference"))
    publish_runs([here], source, {})
    assert pull(source, tmp_path / "results") == ["already present"]
    make_run(tmp_path / "other", run_id=run_id, created_utc="2026-01-15T09:59:59Z")
    another = open_destination(str(tmp_path / "elsewhere"))
    publish_runs([tmp_path / "other"], another, {})
    with pytest.raises(UserError, match="nothing is replaced: move it away"):
        pull(another, tmp_path / "results")


class Answering(http.server.BaseHTTPRequestHandler):
    """An S3 that answers writes with these errors, one after the other, then takes one; it has only what it took."""

    answers: list[tuple[int, str]]
    has: bool

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        code, name = self.answers.pop(0) if self.answers else (200, "")
        type(self).has |= code == 200
        content = f"<Error><Code>{name}</Code><Message>no</Message></Error>".encode() if name else b""
        self.send_response(code)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.send_response(200 if self.has else 404)
        self.send_header("Content-Length", "1")
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_conflict_of_racing_writers_is_tried_again_and_errors_have_hints(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdbench.publish.bucket._CONFLICT_PAUSES_S", (0.0, 0.0))
    conflict = 409, "ConditionalRequestConflict"
    with serving(Answering) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        destination = open_destination(s3)

        def create(*answers: tuple[int, str], has: bool = False) -> bool:
            Answering.answers, Answering.has = list(answers), has
            return destination.create("a/b.zip", b"1")

        assert create(conflict, conflict)
        assert not create((412, "PreconditionFailed"), has=True)
        assert not create(conflict, has=True)
        for answers, hint in (
            ([(400, "ExpiredToken")], "ExpiredToken: no; check the credentials"),
            ([(403, "AccessDenied")], "AccessDenied: no; check the credentials"),
            ([(301, "")], "set AWS_REGION to the region of the bucket"),
            ([conflict] * 3, "ConditionalRequestConflict: no; check the network and run the same command again"),
        ):
            with pytest.raises(EnvironmentProblem, match=hint):
                create(*answers)


def test_passwords_in_addresses_are_not_shown() -> None:
    with pytest.raises((EnvironmentProblem, UserError)) as caught:
        open_destination("nosuch://ann:hunter2@example.org/x")
    assert "hunter2" not in str(caught.value)
    for address in ("s3://ann:hunter2@example.org/x", "https://ann:hunter2@example.org/x"):
        assert open_destination(address).url == address.replace("ann:hunter2@", "")


class Liar(http.server.BaseHTTPRequestHandler):
    """A web server that reports one size and sends more; it has no index pages."""

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


def test_server_that_sends_more_than_its_content_length_is_refused() -> None:
    with serving(Liar) as address:
        source = open_destination(f"{address}/run-1")
        with pytest.raises(RecordError, match="larger than the limit"):
            source.read("a.zip", 1000)
        assert source.find("a.zip.sig", 1000) is None


class Guarded(http.server.SimpleHTTPRequestHandler):
    """A web server with index pages and a password."""

    folder: Path

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(self.folder))

    def do_GET(self) -> None:
        if self.headers["Authorization"] == f"Basic {base64.b64encode(b'ann:pass word').decode()}":
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, *_: object) -> None:
        pass


def test_runs_are_pulled_from_the_index_pages_of_a_web_server(tmp_path: Path) -> None:
    for name in ("run-1", "run-2"):
        make_run(tmp_path / name)
    publish_runs([tmp_path / "run-1", tmp_path / "run-2"], open_destination(str(tmp_path / "www/runs & more")), {})
    Guarded.folder = tmp_path / "www"
    with serving(Guarded) as address:
        folder = address.replace("//", "//ann:pass%20word@") + "/runs%20&%20more"
        assert pull(open_destination(folder), tmp_path / "out") == ["new", "new"]
        with pytest.raises(EnvironmentProblem, match="HTTP Error 401: Unauthorized; check the credentials"):
            open_destination(f"{address}/runs").list_sizes()
        with pytest.raises(UserError, match="has no published run"):
            pull(open_destination(f"{folder}/none"), tmp_path / "out")
        with pytest.raises(EnvironmentProblem, match="a web server takes no runs"):
            open_destination(folder).create("run-1/x.zip", b"")
    # Nothing is read first: the server is gone.
    with pytest.raises(EnvironmentProblem, match="a web server takes no runs"):
        publish_runs([tmp_path / "run-1"], open_destination(folder), {})
    with pytest.raises(EnvironmentProblem, match=re.escape(f"cannot read {address}/runs/: ")):
        open_destination(f"{address}/runs").list_sizes()


def test_object_that_is_lost_in_the_middle_of_a_pull_refuses_its_run_only(
    destination: Destination, tmp_path: Path
) -> None:
    names = ["run-1", "run-2", "run-3"]
    for name in names:
        make_run(tmp_path / name)
    publish_runs([tmp_path / name for name in names], destination, {})

    class Losing:
        url, list_sizes = destination.url, destination.list_sizes

        def read(self, name: str, most_bytes: int) -> bytes:
            return destination.read(name.replace("run-2/", "lost/"), most_bytes)

    transfers = list(pull_runs(cast("Destination", Losing()), tmp_path / "out", lambda _: True))
    assert {transfer.run_id: transfer.fate for transfer in transfers} == {
        "run-1": "new",
        "run-2": "refused",
        "run-3": "new",
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run-1", "run-3"]
