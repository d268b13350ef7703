"""A real Slurm of three nodes on this machine: an array job over kinds, and a node that fails."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.local import (
    CPU_MANIFEST,
    MANIFEST,
    PATIENCE_S,
    check_records,
    cpu_held,
    journal_of,
    start_fleet,
    wait_for_line,
)

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.skipif(
        os.getuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))),
        reason="needs root, and slurmctld, slurmd and munge: apt-get install slurmctld slurmd slurm-client munge",
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # munged refuses a socket below a folder that others may write to, unless that is sticky.
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([Path(__file__).with_name("slurm_here.sh"), folder], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        deadline_s = time.monotonic() + PATIENCE_S
        while states().count("idle") < 3:
            assert time.monotonic() < deadline_s, states()
            time.sleep(0.2)
        yield folder
    for path in (folder / "run").glob("*.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def states() -> list[str]:
    done = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True)
    return done.stdout.split()


def waiting_jobs() -> str:
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout


def start(folder: Path, *options: str, manifest: str = MANIFEST) -> "subprocess.Popen[str]":
    return start_fleet(folder, "--engine", "slurm", *options, manifest=manifest)


def test_each_kind_measures_once_in_one_array_job(slurm: Path, tmp_path: Path) -> None:
    output, _ = start(tmp_path).communicate(timeout=PATIENCE_S)
    check_records(tmp_path / "out", {"A100", "T4"})
    assert output.count("record  ") == 2
    # The progress of each is read from its log on the shared disk.
    assert "A100: 0/2" in output
    (script,) = (tmp_path / "out").glob("fleet-*/array-*.sh")
    assert waiting_jobs() == ""
    assert "#SBATCH --array=0-1\n" in script.read_text()
    nodes = {entry["job"]: entry["node"] for entry in journal_of(tmp_path / "out") if entry["kind"] == "done"}
    assert nodes["T4"] == "n3"
    assert nodes["A100"] in ("n1", "n2")


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_driver_that_was_stopped_takes_what_its_jobs_measured_meanwhile(
    slurm: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    with cpu_held():
        process = start(tmp_path, "--kinds", "T4", manifest=CPU_MANIFEST)
        wait_for_line(process, "T4: device cpu is held")
        process.send_signal(stop)
        output, _ = process.communicate()
    if stop == signal.SIGINT:
        assert "still running in Slurm; to cancel: scancel " in output
        assert process.returncode == 130
    output, _ = start(tmp_path, "--kinds", "T4", manifest=CPU_MANIFEST).communicate(timeout=PATIENCE_S)
    assert "record  " in output
    check_records(tmp_path / "out", {"T4"})
    # It was not measured a second time.
    assert len(list((tmp_path / "out").glob("fleet-*/nodes/*/*/*/results/*/record.json"))) == 1


def test_failed_node_is_replaced_by_one_of_its_kind(slurm: Path, tmp_path: Path) -> None:
    with cpu_held():
        process = start(tmp_path, "--kinds", "A100", manifest=CPU_MANIFEST)
        wait_for_line(process, "A100: device cpu is held")
        subprocess.run(["scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test"], check=True)
    output, _ = process.communicate(timeout=PATIENCE_S)
    subprocess.run(["scontrol", "update", "NodeName=n1", "State=RESUME"], capture_output=True)
    assert process.returncode == 0, output
    check_records(tmp_path / "out", {"A100"})
    entries = journal_of(tmp_path / "out")
    assert [entry["node"] for entry in entries if entry["kind"] == "start"] == ["n1", "n2"]


def test_unknown_kind_is_refused_at_once(slurm: Path, tmp_path: Path) -> None:
    output, _ = start(tmp_path, "--kinds", "H100").communicate(timeout=PATIENCE_S)
    assert "--kinds 'H100': no machine of this kind" in output
    assert not (tmp_path / "out").exists()
