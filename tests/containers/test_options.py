import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sdbench.cli.main import main
from sdbench.containers.engine_errors import as_problem, explain
from sdbench.containers.options import fill_flags, make_create_options, read_data_lines

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "containers"
TEXTS = (ROOT / "tests" / "containers" / "engine_texts.tsv").read_text(encoding="utf-8").splitlines()[1:]
VALUES = {
    "NETWORK": "none",
    "USER_IDS": "1000:1000",
    "RESULTS": "/home/ann/results",
    "CACHE": "sdbench-cache",
    "LOCKS": "/tmp/sdbench-locks",
    "GPUS": "device=0,1",
    "MEMORY": "2g",
    "CPUS": "0-3",
    "JOB": '{"a":"b=c"}',
    "TOKEN_NAME": "HF_TOKEN",
}


def test_flag_without_a_value_is_left_out() -> None:
    flags = fill_flags({"NETWORK": "none", "MEMORY": ""})
    assert {"--network=none", "--read-only"} <= set(flags)
    assert not [flag for flag in flags if flag.startswith(("--memory", "--user")) or "$" in flag]


def test_container_is_hardened_by_default() -> None:
    options = make_create_options(fill_flags({"NETWORK": "none", "USER_IDS": "1000:1000"}), {})
    assert options["network_mode"] == "none"
    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges"]
    assert options["user"] == "1000:1000"
    assert options["ipc_mode"] == "private"
    assert set(options["tmpfs"]) == {"/tmp"}


def test_every_flag_of_the_shared_set_is_known_to_the_sdk() -> None:
    options = make_create_options(fill_flags(dict.fromkeys(placeholders(), "1")), {})
    assert options["device_requests"]
    assert len(options["volumes"]) == 5


def test_values_arrive_whole() -> None:
    options: dict[str, Any] = make_create_options(fill_flags(VALUES), {"HF_TOKEN": "canary"})
    assert options["labels"] == {"sdbench.job": '{"a":"b=c"}'}
    assert sorted(options["environment"]) == ["HF_TOKEN=canary", "SDBENCH_CACHE_GIB"]
    assert options["mem_limit"] == "2g"
    (request,) = options["device_requests"]
    assert request["DeviceIDs"] == ["0", "1"]


def test_device_files_can_be_named_beside_the_gpus() -> None:
    options = make_create_options(['--gpus="all"', "--device=/dev/nvidiactl", "--device=/dev/nvidia0"], {})
    assert options["devices"] == ["/dev/nvidiactl", "/dev/nvidia0"]
    assert options["device_requests"]


def test_unknown_flag_is_refused() -> None:
    with pytest.raises(ValueError, match="privileged"):
        make_create_options(["--privileged"], {})


def placeholders() -> set[str]:
    return set(re.findall(r"\$\{([A-Z_]+)\}", "\n".join(read_data_lines("container.flags"))))


def test_script_and_sdk_set_every_placeholder_of_the_shared_set() -> None:
    script = (CONTAINERS / "bench.sh").read_text(encoding="utf-8")
    sdk = "".join(
        (ROOT / "sdbench" / "containers" / name).read_text(encoding="utf-8") for name in ("jobs.py", "schedule.py")
    )
    labels_of_the_command = {"JOB", "SCHEDULE"}
    folder_of_the_script = {"MANIFESTS"}
    for name in placeholders() - labels_of_the_command:
        assert re.search(rf"\b{name}\b", script + (ROOT / "Makefile").read_text(encoding="utf-8")), name
    for name in placeholders() - folder_of_the_script:
        assert f'"{name}"' in sdk, name


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "group",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "start it",
        ),
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            "install the NVIDIA container toolkit",
        ),
        (
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver",
            "driver is too old",
        ),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", "shows none"),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk is full"),
        ("manifest for example/sdbench:none not found: manifest unknown", "no such image"),
        ("ssh: Could not resolve hostname box: Name or service not known", "ssh host cannot be reached"),
        ("dial tcp: lookup registry.example: no such host", "registry cannot be reached"),
        ("dial tcp 10.0.0.1:443: connect: no route to host", "registry cannot be reached"),
        ("ssh: [Errno -2] Name or service not known", "ssh host cannot be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "lock file"),
        ("ERROR: No matching distribution found for torch==2.13.0+cpu", "make wheels"),
    ],
)
def test_error_of_docker_is_explained_with_a_hint(output: str, meaning: str) -> None:
    explained = explain(f"some line\n{output}\nanother line")
    assert explained is not None
    assert meaning in explained
    assert output[-40:] in explained


@pytest.mark.parametrize("line", TEXTS, ids=lambda line: line.partition("\t")[0][:60])
def test_text_of_an_engine_has_its_own_meaning_in_both_readers(line: str, tmp_path: Path) -> None:
    text, _, meaning = line.partition("\t")
    assert meaning in str(explain(text))
    (tmp_path / "log").write_text(f"some line\n{text}\n")
    script = '. "${0%/*}/docker.sh"; fail_with_hint "$1" "it failed"'
    done = subprocess.run(
        ["sh", "-c", script, str(CONTAINERS / "any.sh"), str(tmp_path / "log")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert meaning in done.stderr


def test_error_that_the_table_does_not_know_is_shown() -> None:
    assert explain("something new") is None
    assert (
        str(as_problem("it failed", "something\n new"))
        == "it failed: something new; see 'docker info' and the log of Docker's daemon"
    )


def test_the_two_dockerfiles_differ_in_what_names_their_kind_alone() -> None:
    cpu, cuda = ((ROOT / f"Dockerfile.{kind}").read_text(encoding="utf-8").splitlines() for kind in ("cpu", "cuda"))
    only_cpu, only_cuda = set(cpu) - set(cuda), set(cuda) - set(cpu)
    assert all(re.search(r"\bcpu\b|a CPU|PIP_EXTRA_INDEX_URL", line) for line in only_cpu), only_cpu
    assert all(re.search(r"cuda\b|CUDA|NVIDIA|PIP_EXTRA_INDEX_URL|BuildKit for it", line) for line in only_cuda), (
        only_cuda
    )


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_dockerfile_is_portable_pinned_and_runs_as_nobody_in_particular(kind: str) -> None:
    text = (ROOT / f"Dockerfile.{kind}").read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE_IMAGE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    for unportable in ("# syntax=", "<<", "--mount", "VOLUME", "ADD "):
        assert unportable not in text
    assert not re.search(r"TOKEN|SECRET", text)


def test_toolkit_version_is_read_as_it_is_printed() -> None:
    script = (CONTAINERS / "bench.sh").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"nvidia-ctk --version 2>/dev/null \| sed -n '(.*?)'", script)
    line = 'NVIDIA Container Toolkit CLI version 1.17.8\ncommit: "x"\n'
    done = subprocess.run(["sed", "-n", pattern], input=line, capture_output=True, text=True, check=True)
    assert done.stdout == "NVIDIA Container Toolkit CLI version 1.17.8\n"


def test_several_gpus_reach_both_ways() -> None:
    options = make_create_options(fill_flags({"GPUS": "device=0,1"}), {})
    (request,) = options["device_requests"]
    assert request.device_ids == ["0", "1"]
    # The client reads the value as a list with commas; the quotes keep it whole.
    assert '--gpus="${GPUS}"' in read_data_lines("container.flags")


@pytest.mark.parametrize(
    ("arguments", "refused", "why"),
    [
        *(
            (["run", "smoke", f"--{option}"], option.partition("=")[0], "applies only with --image")
            for option in ("gpus=all", "cpus=0-3", "memory=1g", "host=ssh://ann@box")
        ),
        *(
            (["run", "smoke", "--image", "x", f"--{option}"], option.partition("=")[0], "does not apply with --image")
            for option in ("rounds=2", "fresh", "json", "quiet", "price=1/h", "prices=prices.yaml")
        ),
        *(
            (["run", "--attach", f"--{option}"], option.partition("=")[0], "does not apply with --attach")
            for option in ("rounds=2", "quiet", "image=x", "gpus=all", "only=a", "device=cpu", "budget=1m", "set=a=1")
        ),
        *(
            (["run", "smoke", "--device=cuda:all", f"--{option}"], option[:-4], "does not apply with --device cuda:all")
            for option in ("price=1/h", "prices=a/b")
        ),
        (["ab", "smoke", "--a=tf32=true", "--b=tf32=false", "--gpus=all"], "gpus", "applies only with image=NAME"),
        (["ab", "smoke", "--a=image=x", "--b=image=y", "--quiet"], "quiet", "does not apply with images"),
        (["ab", "smoke", "--a=image=x", "--b=image=y", "--seed=0"], "seed", "does not apply with images"),
    ],
)
def test_option_that_would_be_ignored_is_refused(
    arguments: list[str], refused: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"sdbench: --{refused} {why}; remove it\n"
    assert not out.exists()


def test_manifest_is_refused_where_earlier_runs_are_collected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "smoke", "--attach"]) == 2
    assert capsys.readouterr().err == "sdbench: MANIFEST does not apply with --attach; remove it\n"
