"""Against a real engine, with `make test-docker`: the image is built for real, from BASE_IMAGE where one is named."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdbench.containers.engine import Engine
from sdbench.containers.options import fill_flags
from sdbench.fleet.node_job import NodeJob, NodeResult, measure
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record, verify_files

pytestmark = [pytest.mark.docker, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "manifests" / "smoke.yaml"
# make hands it on empty where nobody set it.
DOCKER = os.environ.get("DOCKER") or "docker"
CANARY = "hf_canary" + "0123456789" * 2
HARDENED = (
    "ReadonlyRootfs",
    "CapDrop",
    "SecurityOpt",
    "NetworkMode",
    "IpcMode",
    "ShmSize",
    "PidsLimit",
    "Tmpfs",
    "Memory",
)


def docker(*arguments: str) -> str:
    return subprocess.run([DOCKER, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def leftovers() -> tuple[str, str]:
    """The containers of the image, and the volumes that belong to one launch."""
    return docker("ps", "--all", "--quiet", "--filter", "ancestor=sdbench:cpu"), docker(
        "volume", "ls", "--quiet", "--filter", "label=sdbench.schedule"
    )


def bench(out: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    home = out.parent / "home"
    given = {"OUT": str(out), "IMAGE": "sdbench:cpu", "HOME": str(home), "DOCKER": DOCKER, **environ}
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [ROOT / "containers" / "bench.sh", "cpu", *(arguments or (str(SMOKE),))],
        capture_output=True,
        text=True,
        env=os.environ | given,
    )


def launch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sdbench", "run", *arguments], capture_output=True, text=True, cwd=ROOT
    )


def only_record(out: Path) -> Record:
    (path,) = out.glob("*/record.json")
    record = load_record(path)
    verify_files(path.parent, record)
    return record


@pytest.fixture(scope="module", autouse=True)
def image() -> str:
    """The CPU image of this checkout."""
    built = subprocess.run([ROOT / "containers" / "build.sh", "cpu", "sdbench:cpu"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return "sdbench:cpu"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No container and no volume of a launch outlives a test."""
    before = leftovers()
    yield
    assert leftovers() == before


@pytest.fixture(scope="module")
def smoke(image: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A run of the smoke manifest as `make bench-cpu` does it, with a token in the environment."""
    out = tmp_path_factory.mktemp("bench") / "out"
    return out, bench(out, HF_TOKEN=CANARY)


def test_bench_leaves_a_valid_record_and_a_report(smoke: tuple[Path, Any]) -> None:
    out, done = smoke
    assert done.returncode == 0, done.stderr
    record = only_record(out)
    assert {result.outcome.kind for result in record.results} == {"succeeded"}
    assert list(out.glob("*/report.html"))
    assert all(file.stat().st_uid == os.getuid() for file in out.rglob("*"))


def test_record_knows_image_engine_and_commit(smoke: tuple[Path, Any]) -> None:
    software = only_record(smoke[0]).fingerprint.software
    assert software.image_id == Known(value=docker("image", "inspect", "--format", "{{.Id}}", "sdbench:cpu"))
    assert isinstance(software.container_engine, Known)
    assert software.container_engine.value.engine_version == Known(
        value=docker("version", "--format", "{{.Server.Version}}")
    )
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", "sdbench:cpu"))
    assert isinstance(software.sdbench_commit, Known)
    assert labels["org.opencontainers.image.revision"].startswith(software.sdbench_commit.value)
    assert len(labels["sdbench.lock.sha256"]) == 64


def test_token_is_nowhere(smoke: tuple[Path, Any]) -> None:
    out, done = smoke
    texts = [
        done.stdout,
        done.stderr,
        docker("image", "inspect", "sdbench:cpu"),
        docker("history", "--no-trunc", "sdbench:cpu"),
    ]
    texts += [file.read_bytes().decode(errors="replace") for file in out.rglob("*") if file.is_file()]
    assert len(texts) > 6
    assert not [text for text in texts if CANARY in text]


def test_token_that_is_needed_reaches_the_fetching_step_alone(tmp_path: Path) -> None:
    wrapper = tmp_path / "docker"
    log = tmp_path / "log"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >>{log}\nexec {shutil.which(DOCKER)} "$@"\n')
    wrapper.chmod(0o755)
    pinned = ("--weights", "pretrained", "--set", "hub_id=nobody/nothing", "--set", f"revision={'a' * 40}")
    done = bench(tmp_path / "out", str(SMOKE), *pinned, HF_TOKEN=CANARY, DOCKER=str(wrapper))
    assert done.returncode == 3, done.stderr
    assert CANARY not in done.stdout + done.stderr + log.read_text()
    creations = [line for line in log.read_text().splitlines() if line.startswith("create ")]
    with_token = [line for line in creations if "--env=HF_TOKEN" in line]
    assert len(with_token) == 1
    assert "fetch /input/" in with_token[0]
    assert "--check" not in with_token[0]
    assert all("--network=none" in line for line in creations if line not in with_token)


def test_script_and_sdk_make_the_same_container() -> None:
    values = {"NETWORK": "none", "USER_IDS": "4242:4242", "CACHE": "sdbench-test-cache", "OFFLINE": "1", "MEMORY": "1g"}
    engine = Engine(None)
    by_sdk = engine.create("sdbench:cpu", ["--version"], values)
    by_script = docker("create", *fill_flags(values), "sdbench:cpu", "--version")
    try:
        first, second = (json.loads(docker("inspect", name))[0] for name in (by_sdk.id, by_script))
        assert {key: first["HostConfig"][key] for key in HARDENED} == {
            key: second["HostConfig"][key] for key in HARDENED
        }
        assert first["HostConfig"]["Binds"] == second["HostConfig"]["Binds"]
        assert first["Config"]["User"] == second["Config"]["User"] == "4242:4242"
        assert sorted(first["Config"]["Env"]) == sorted(second["Config"]["Env"])
        by_sdk.start()
        assert by_sdk.wait()["StatusCode"] == 0
        assert by_sdk.logs().startswith(b"sdbench ")
    finally:
        docker("rm", "--force", by_sdk.id, by_script)
        docker("volume", "rm", "--force", "sdbench-test-cache")


def test_two_images_are_interleaved(tmp_path: Path) -> None:
    docker("tag", "sdbench:cpu", "sdbench:twin")
    done = launch(str(SMOKE), "--image", "sdbench:cpu", "--image", "sdbench:twin", "--out", str(tmp_path))
    docker("rmi", "sdbench:twin")
    assert done.returncode == 0, done.stderr
    records = [load_record(path) for path in sorted(tmp_path.glob("*/record.json"))]
    assert [record.ended for record in records] == ["complete", "complete"]
    assert len({result.planned.experiment_id for record in records for result in record.results}) == len(
        records[0].results
    )
    starts = sorted(
        (launch.started_utc, record.run_id)
        for record in records
        for result in record.results
        for launch in getattr(result.outcome, "launches", ())
    )
    order = [run_id for _, run_id in starts]
    rounds = [order[index] for index in range(0, len(order), len(records[0].results))]
    assert rounds[0] == rounds[3]
    assert rounds[1] == rounds[2] != rounds[0]


def test_gpu_that_is_not_there_is_one_line_with_the_hint(tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this host has a GPU")
    by_sdk = launch(str(SMOKE), "--image", "sdbench:cpu", "--gpus", "all", "--out", str(tmp_path / "a"))
    by_script = subprocess.run(
        [ROOT / "containers" / "bench.sh", "cuda", SMOKE],
        capture_output=True,
        text=True,
        env=os.environ | {"OUT": str(tmp_path / "b"), "IMAGE": "sdbench:cpu", "DOCKER": DOCKER},
    )
    for done in (by_sdk, by_script):
        assert done.returncode == 3
        assert "NVIDIA container toolkit" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("record.json"))


def test_too_little_memory_is_distinguished_from_a_crash(tmp_path: Path) -> None:
    by_script = bench(tmp_path / "a", MEMORY="24m")
    assert by_script.returncode == 3
    assert "out of memory" in by_script.stderr
    by_sdk = launch(str(SMOKE), "--image", "sdbench:cpu", "--memory", "24m", "--out", str(tmp_path / "b"))
    assert by_sdk.returncode == 3
    assert "out of memory" in by_sdk.stderr


def start_and_wait_for_a_launch(out: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "sdbench", "run", SMOKE, "--image", "sdbench:cpu", "--out", out],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "launch 1" in line:
            break
    return process


def test_termination_seals_what_is_there(tmp_path: Path) -> None:
    process = start_and_wait_for_a_launch(tmp_path)
    time.sleep(1)
    # Not SIGINT, which a shell's background jobs ignore, and CI may be one.
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert only_record(tmp_path).ended == "interrupted"


def test_launcher_that_dies_is_followed_up_by_attach(tmp_path: Path) -> None:
    process = start_and_wait_for_a_launch(tmp_path)
    process.kill()
    process.communicate()
    done = launch("--attach", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert only_record(tmp_path).ended == "complete"


def test_machine_of_a_fleet_resumes_with_the_container_of_a_worker_that_was_killed(tmp_path: Path) -> None:
    job = NodeJob(
        fleet_id="fleet-1",
        kind="cpu",
        manifest_name="smoke.yaml",
        manifest_text=SMOKE.read_text(),
        arguments=(),
        image="sdbench:cpu",
    )
    (tmp_path / "job.json").write_text(job.model_dump_json())
    worker = subprocess.Popen(
        [sys.executable, "-m", "sdbench.fleet.node_job", tmp_path / "job.json", tmp_path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert any("launch 1" in line for line in worker.stdout or ())
    worker.kill()
    worker.communicate()
    assert leftovers()[0]
    *progress, end = measure(job, tmp_path)
    assert isinstance(end, NodeResult)
    assert end.exit_code == 0, progress
    (files,) = end.runs
    assert json.loads(files["record.json"])["ended"] == "complete"
    assert leftovers() == ("", "")
    # What is finished is returned, not measured again.
    assert list(measure(job, tmp_path)) == [end]


def test_read_only_results_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = bench(tmp_path / "out", OUT=str(blocked / "out"))
    assert done.returncode == 3
    assert "choose another folder with OUT=FOLDER" in done.stderr


def test_image_that_is_nowhere_is_one_line(tmp_path: Path) -> None:
    done = bench(tmp_path / "out", IMAGE="127.0.0.1:9/nobody/nothing:none")
    assert done.returncode == 3
    assert "cannot be pulled" in done.stderr


def test_engine_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    gone = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = bench(tmp_path / "out", **gone)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "does not run: start it" in done.stderr


@pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs the package docker-registry")
def test_image_pulled_by_digest_has_it_in_the_record(tmp_path: Path) -> None:
    config = tmp_path / "registry.yaml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        "http: {addr: '127.0.0.1:5123'}\n"
    )
    registry = subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.DEVNULL)
    name = "127.0.0.1:5123/sdbench"
    try:
        time.sleep(2)
        docker("tag", "sdbench:cpu", name)
        docker("push", name)
        pushed = docker("image", "inspect", "--format", "{{index .RepoDigests 0}}", name)
        docker("rmi", name)
        done = bench(tmp_path / "out", IMAGE=pushed)
        assert done.returncode == 0, done.stderr
        digest = pushed.partition("@")[2]
        assert only_record(tmp_path / "out").fingerprint.software.image_digest == Known(value=digest)
    finally:
        subprocess.run([DOCKER, "rmi", pushed], capture_output=True)
        registry.terminate()
        registry.wait()


FILES_AS_RECORDED = """
import base64, hashlib, importlib.metadata, pathlib, sys
count, wrong = 0, []
for dist in importlib.metadata.distributions():
    for file in dist.files or ():
        if file.hash is None:
            continue
        count += 1
        path = pathlib.Path(dist.locate_file(file))
        if not path.is_file():
            wrong.append(f"missing {file}")
            continue
        digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            wrong.append(f"changed {file}")
print(count)
sys.exit("\\n".join(wrong[:20]) if wrong else 0)
"""


def test_every_installed_file_has_the_hash_that_its_package_records() -> None:
    counted = docker("run", "--rm", "--network=none", "--entrypoint", "python", "sdbench:cpu", "-c", FILES_AS_RECORDED)
    assert int(counted) > 10_000
