"""requirements/set_up.sh against an interpreter that only notes what it is asked to do."""

import contextlib
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Answers as Python 3.11 would; `-m venv DIR` puts a copy of itself there. Fails where its arguments
# contain $FAIL_ON, and waits for the file $WAIT_FOR where they contain $WAIT_ON.
INTERPRETER = """#!/bin/sh
echo "$*" >>"$NOTES"
case "$*" in
*"${FAIL_ON:-no such argument}"*) echo "the network is down"; exit 1 ;;
*"${WAIT_ON:-no such argument}"*) while [ ! -e "$WAIT_FOR" ]; do sleep 0.1; done ;;
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
esac
"""


class Checkout:
    """A copy of what the configuration reads, with a noting interpreter as the only Python."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.notes = folder / "notes"
        self.python = folder / "python"
        self.python.write_text(INTERPRETER)
        self.python.chmod(0o755)
        shutil.copytree(ROOT / "requirements", self.root / "requirements", ignore=shutil.ignore_patterns("wheels"))
        shutil.copy(ROOT / "pyproject.toml", self.root)
        shutil.copytree(ROOT / "containers", self.root / "containers")
        (self.root / "sdbench").mkdir()
        shutil.copy(ROOT / "sdbench/__init__.py", self.root / "sdbench")

    def set_up(self, level: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the configuration with CPU torch, without anything it could install from."""
        self.notes.write_text("")
        command = ["sh", str(self.root / "requirements/set_up.sh"), level]
        return subprocess.run(
            command, env=self.environment() | environment, capture_output=True, text=True, check=False
        )

    def environment(self) -> dict[str, str]:
        """Return the variables of a setup on the CPU."""
        return {
            "PATH": os.environ["PATH"],
            "NOTES": str(self.notes),
            "PYTHON": str(self.python),
            "TORCH_BUILD": "cpu",
        }

    def installs(self) -> list[str]:
        """The arguments of every pip install of the last setup, from the first option in which they differ."""
        lines = [line for line in self.notes.read_text().splitlines() if " pip install " in line]
        return [line.rpartition("--no-compile ")[2] for line in lines]


EXTRAS = " ".join(f"-r requirements/{name}.txt" for name in ("report", "containers", "publish", "query"))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_set_up_installs_torch_first_and_the_project_last(checkout: Checkout) -> None:
    done = checkout.set_up("dev")
    assert done.returncode == 0, done.stderr
    *locks, project, tools = checkout.installs()
    assert locks == [
        "-r requirements/build.txt",
        "-r .venv/torch.txt",
        f"-r requirements/cpu.txt {EXTRAS}",
    ]
    assert project.endswith("-e .")
    assert tools == "-r requirements/dev.txt -r requirements/fleet.txt"


def test_torch_step_asks_for_torch_alone(checkout: Checkout) -> None:
    checkout.set_up()
    lines = (checkout.root / ".venv/torch.txt").read_text().splitlines()
    assert lines[0].startswith("torch==")
    assert all(line.startswith("    --hash=sha256:") for line in lines[1:])
    assert len(lines) > 1


def test_set_up_names_each_step(checkout: Checkout) -> None:
    lines = checkout.set_up().stderr.splitlines()
    assert [line.removeprefix("setup:   ") for line in lines[1:]] == [
        "an empty environment",
        "torch",
        "the other packages",
        "compiling them",
    ]


def test_set_up_shows_progress_on_a_terminal_and_leaves_no_process(checkout: Checkout, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    environment = checkout.environment() | {"WAIT_ON": "cpu.txt", "WAIT_FOR": str(tmp_path / "seen")}
    command = ["sh", str(checkout.root / "requirements/set_up.sh"), "run"]
    with subprocess.Popen(command, env=environment, stderr=terminal, start_new_session=True) as process:
        os.close(terminal)
        shown = b""
        # Reading fails when the last process that has the terminal open is gone.
        with contextlib.suppress(OSError):
            while part := os.read(controller, 4096):
                shown += part
                if b" s, 0 packages read" in shown:
                    (tmp_path / "seen").touch()
    os.close(controller)
    assert process.returncode == 0
    assert b"setup:   1 s, 0 packages read" in shown


def test_second_set_up_starts_no_interpreter(checkout: Checkout) -> None:
    checkout.set_up("dev")
    done = checkout.set_up("dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert checkout.notes.read_text() == ""


@pytest.mark.parametrize("cut_at", ["-m venv", "build.txt", "cpu.txt", "-e .", "dev.txt"])
def test_set_up_that_failed_is_completed_by_the_next(checkout: Checkout, cut_at: str) -> None:
    done = checkout.set_up("dev", FAIL_ON=cut_at)
    assert done.returncode != 0
    assert "the network is down" in done.stderr
    assert checkout.set_up("dev").returncode == 0
    assert checkout.set_up("dev").returncode == 0
    assert checkout.notes.read_text() == ""


def test_packages_cut_off_half_way_are_not_taken_as_installed(checkout: Checkout) -> None:
    checkout.set_up("dev")
    (checkout.root / ".venv/.unfinished").touch()
    half_installed = checkout.root / ".venv/lib/half"
    half_installed.mkdir(parents=True)
    assert checkout.set_up().returncode == 0
    assert not half_installed.exists()
    checkout.set_up("dev")
    assert "-r requirements/dev.txt -r requirements/fleet.txt" in checkout.installs()


@pytest.mark.parametrize("lock", ["build", "cpu", "report"])
def test_changed_lock_makes_the_environment_anew(checkout: Checkout, lock: str) -> None:
    checkout.set_up()
    with (checkout.root / f"requirements/{lock}.txt").open("a") as file:
        file.write("# changed\n")
    assert checkout.set_up().returncode == 0
    assert "-m venv .venv" in checkout.notes.read_text()


def test_changed_development_tools_leave_the_rest_alone(checkout: Checkout) -> None:
    checkout.set_up("dev")
    with (checkout.root / "requirements/dev.txt").open("a") as file:
        file.write("# changed\n")
    assert checkout.set_up("dev").returncode == 0
    assert checkout.installs() == ["-r requirements/dev.txt -r requirements/fleet.txt"]


def test_changed_project_file_installs_only_the_project_anew(checkout: Checkout) -> None:
    checkout.set_up()
    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert checkout.set_up().returncode == 0
    (install,) = checkout.installs()
    assert install.endswith("-e .")


def test_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.set_up()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.set_up().returncode == 0
    assert "-m venv .venv" in checkout.notes.read_text()


def test_torch_out_of_reach_falls_back_to_the_cpu_index_then_to_the_cuda_build(checkout: Checkout) -> None:
    done = checkout.set_up(FAIL_ON=".venv/torch.txt")
    assert done.returncode == 0, done.stderr
    _, configured, index, everything, _ = checkout.installs()
    assert configured == "-r .venv/torch.txt"
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in index
    assert everything == f"-r requirements/cuda13.txt {EXTRAS}"
    assert "CUDA build" in done.stderr


@pytest.mark.parametrize("build", ["cuda12", "cuda13"])
def test_cuda_build_is_taken_where_asked_for(checkout: Checkout, build: str) -> None:
    assert checkout.set_up(TORCH_BUILD=build).returncode == 0
    assert f"-r requirements/{build}.txt {EXTRAS}" in checkout.installs()
    assert not (checkout.root / ".venv/torch.txt").exists()


def path_with_driver(folder: Path, version: str) -> str:
    """Return a PATH on which nvidia-smi shows a driver."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$*" in *driver_version*) echo "{version}" ;; esac\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


without_driver = pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this host has a driver")


@without_driver
@pytest.mark.parametrize("asked", ["auto", "cuda"])
@pytest.mark.parametrize(("driver", "lock"), [("580.65.06", "cuda13"), ("570.124.06", "cuda12")])
def test_driver_decides_which_cuda_build_is_taken(
    checkout: Checkout, tmp_path: Path, driver: str, lock: str, asked: str
) -> None:
    environment = {"TORCH_BUILD": asked, "PATH": path_with_driver(tmp_path, driver)}
    done = checkout.set_up(**environment)
    assert f"with torch for {lock} (driver {driver} " in done.stderr
    assert f"-r requirements/{lock}.txt {EXTRAS}" in checkout.installs()
    again = checkout.set_up(**environment)
    assert (again.returncode, again.stderr, checkout.notes.read_text()) == (0, "", "")


@without_driver
@pytest.mark.parametrize("driver", ["470.256.02", "NVIDIA-SMI has failed"])
def test_driver_that_runs_no_build_does_not_become_a_run_on_the_cpu(
    checkout: Checkout, tmp_path: Path, driver: str
) -> None:
    done = checkout.set_up(TORCH_BUILD="auto", PATH=path_with_driver(tmp_path, driver))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "TORCH_BUILD=cpu" in done.stderr
    assert not checkout.notes.read_text()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PYTHON": "no-such-python"}, "no Python 3.11 found as no-such-python"),
        ({"FAIL_ON": "ensurepip"}, "apt-get install python3.11-venv"),
        ({"TORCH_BUILD": "gpu"}, "invalid TORCH_BUILD 'gpu': expected cpu, cuda12, cuda13, cuda or auto"),
    ],
)
def test_what_is_missing_is_one_line_with_a_hint(checkout: Checkout, environment: dict[str, str], message: str) -> None:
    done = checkout.set_up(**environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout.root / ".venv").exists()


def test_environment_made_by_someone_else_is_left_alone(checkout: Checkout) -> None:
    mine = checkout.root / ".venv/bin/mine"
    mine.parent.mkdir(parents=True)
    mine.touch()
    done = checkout.set_up()
    assert done.returncode == 1
    assert "move it away" in done.stderr
    assert mine.exists()
    assert checkout.installs() == []


def test_failed_install_shows_why(checkout: Checkout) -> None:
    done = checkout.set_up(FAIL_ON="cpu.txt")
    assert done.returncode == 1
    assert "the network is down" in done.stderr
    assert "setup.log" in done.stderr
