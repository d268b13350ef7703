import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from sdbench import exit_codes
from sdbench.cli.main import EXIT_CODES, HELP, main
from sdbench.cli.schema import build_schema
from sdbench.probes.devices import choose_device
from sdbench.store.bundle import load_record

REPOSITORY = Path(__file__).parents[2]
QUICK = REPOSITORY / "manifests" / "quick.yaml"
SMOKE = REPOSITORY / "manifests" / "smoke.yaml"

HEAD = "schema: sdbench/manifest/v1\ntitle: T\nmodel: {pipeline: tiny-sd}\n"
GROUP = "experiments:\n  - {id: a, title: A, matrix: {batch: [1]}}\n"

BAD_MANIFESTS = {
    "unknown key": (HEAD + GROUP + "experimnts: []\n", "6:1: unknown key 'experimnts'; nearest: 'experiments'"),
    "wrong type": (HEAD + "defaults: {steps: many}\n" + GROUP, '4:12: steps is "many"'),
    "duplicate key": (HEAD + "title: U\n" + GROUP, "4:1: duplicate key 'title', first on line 2"),
    "empty matrix": (HEAD + "experiments:\n  - {id: a, title: A, matrix: {}}\n", "the matrix is empty"),
    "expands to nothing": (
        HEAD + "experiments:\n  - {id: a, title: A, matrix: {batch: [1]}, exclude: [{batch: 1}]}\n",
        "group 'a' expands to nothing",
    ),
    "too many": (
        HEAD
        + "experiments:\n"
        + f"  - {{id: a, title: A, matrix: {{seed: {list(range(101))}, steps: {list(range(1, 101))}}}}}\n",
        "10,100 experiments, over the limit of 10,000",
    ),
    "cycle of excludes": (
        HEAD
        + "experiments:\n  - {id: a, title: A, exclude: [{group: b}]}\n  - {id: b, title: B, exclude: [{group: a}]}\n",
        "a cycle of excludes: a excludes b excludes a",
    ),
    "future version": (HEAD.replace("v1", "v7") + GROUP, "'sdbench/manifest/v7' is another version"),
    "bomb": (
        HEAD
        + "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)),
        "more than 100,000 values after expanding aliases",
    ),
}


def run_bad(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> str:
    manifest = tmp_path / "bad.yaml"
    manifest.write_bytes(content)
    assert main(["run", str(manifest), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists(), "nothing is written"
    return captured.err


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_manifest_is_one_line_exit_2_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text, message = BAD_MANIFESTS[name]
    assert message in run_bad(tmp_path, text.encode(), capsys)


def test_binary_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "binary" in run_bad(tmp_path, b"\x89PNG\r\n\x1a\n\x00\xff", capsys)


def test_file_of_50_megabytes_is_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "larger than the limit" in run_bad(tmp_path, b"- x\n" * 12_500_000, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "--only 'nothing' matches no group"),
        (["--set", "stepz=3"], "nearest: 'steps'"),
        (["--set", "steps"], "expected key=value"),
        (["--set", "protocol.calls_max=-1"], "protocol.calls_max"),
        (["--budget", "soon"], "invalid duration 'soon'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--weights", "pretrained"], "needs model.hub_id and model.revision"),
    ],
)
def test_bad_option_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["run", str(SMOKE), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    # That of the weights is one of each group.
    assert error.count("\n") == (2 if arguments[0] == "--weights" else 1)
    assert not (tmp_path / "out").exists()


def test_cuda_where_there_is_none_is_exit_3_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if (Path("/proc/driver/nvidia")).exists():
        pytest.fail("this machine has an NVIDIA driver: choose another way to test its absence")
    assert main(["run", str(SMOKE), "--out", str(tmp_path / "out"), "--device", "cuda"]) == 3
    assert "--device cpu" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_file_and_folder_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path / "none.yaml")]) == 2
    assert main(["plan", str(tmp_path)]) == 2
    assert "No such file" in capsys.readouterr().err


def test_output_that_is_a_file_is_one_line_before_any_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sdbench.runner.run.hold_device", lambda *_, **__: pytest.fail("it waited for the device"))
    (tmp_path / "out").write_text("")
    assert main(["run", str(SMOKE), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert capsys.readouterr().err == f"sdbench: --out {tmp_path / 'out'} is not a folder; choose another\n"


def test_shipped_manifests_are_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *map(str, sorted(QUICK.parent.glob("*.yaml")))]) == 0
    assert "a valid manifest" in capsys.readouterr().out


def test_validate_goes_on_after_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("title: x\n")
    assert main(["validate", str(tmp_path / "bad.yaml"), str(SMOKE)]) == 2
    assert "a valid manifest" in capsys.readouterr().out


def test_plan_names_every_experiment_and_why_one_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(SMOKE), "--device", "cpu", "--set", "tf32=true"]) == 0
    assert "skipped: TF32 exists only on NVIDIA GPUs" in capsys.readouterr().out
    assert main(["plan", str(SMOKE), "--device", "cpu", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [item["skipped"] for item in plan["experiments"]] == [None] * 6


@pytest.mark.parametrize("path", sorted(QUICK.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_schema_for_editors_accepts_the_shipped_manifests(path: Path) -> None:
    jsonschema.validate(YAML(typ="safe", pure=True).load(path.read_text()), build_schema("manifest"))


def test_schema_for_editors_refuses_an_unknown_option() -> None:
    manifest = YAML(typ="safe", pure=True).load(SMOKE.read_text())
    manifest["defaults"]["stepz"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, build_schema("manifest"))


def test_help_of_every_command_names_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for command in HELP:
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
    assert "--fresh" in capsys.readouterr().out


def test_unknown_command_gets_its_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runn"]) == 2
    assert capsys.readouterr().err == "sdbench: unknown command 'runn': did you mean 'run'?; sdbench --help lists all\n"


def test_unknown_choice_gets_its_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "x", "--format", "markdwn"])
    assert "invalid choice 'markdwn': did you mean 'markdown'?" in capsys.readouterr().err


def test_unknown_option_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "quick", "--devce", "cpu"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --devce cpu; did you mean --device?\n")


def test_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m sdbench schema record | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=REPOSITORY, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", [name for name in dir(exit_codes) if name.isupper()])
def test_exit_codes_are_documented_in_help(name: str) -> None:
    assert f"  {getattr(exit_codes, name):<3}  " in EXIT_CODES


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """One real launch of the tiny pipeline through the installed command, with canaries for whatever is private."""
    out = tmp_path_factory.mktemp("real") / "out"
    home = tmp_path_factory.mktemp("home-canary")
    command = ["-m", "sdbench", "run", str(SMOKE), "--out", str(out), "--device", "cpu", "--set", "precision=fp32"]
    one = ["--only", "smoke", "--set", "protocol.launches_min=1", "--set", "protocol.launches_max=1"]
    environment = os.environ | {
        "HOME": str(home),
        "USER": "user-canary",
        "LOGNAME": "user-canary",
        "HOSTNAME": "host-canary",
        "HF_TOKEN": "hf_tokencanary",
        "ACCESS_TOKEN": "access-token-canary",
        "OMP_NUM_THREADS": "2",
    }
    done = subprocess.run(
        [sys.executable, *command, *one], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    return out, done


@pytest.mark.torch
def test_real_run_ends_well_with_record_report_and_summary(
    real_run: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    out, done = real_run
    assert done.returncode == 0, done.stderr
    (folder,) = out.iterdir()
    assert str(folder / "record.json") in done.stdout
    assert str(folder / "report.html") in done.stdout
    assert "tiny-sd fp32 batch 1 64x64 2 steps" in done.stdout
    assert main(["validate", str(folder)]) == 0
    (result,) = load_record(folder).results
    assert result.outcome.kind == "succeeded"
    launch = result.outcome.launches[0]
    latency = launch.find_series("latency")
    assert latency is not None
    assert len(latency.samples) == latency.warmup_count + len(latency.steady)
    assert launch.images[0].finite
    assert launch.images[0].path is not None
    assert (folder / launch.images[0].path).is_file()


def test_real_run_keeps_nothing_private(real_run: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    out, _ = real_run
    (folder,) = out.iterdir()
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for canary in (b"canary", os.uname().nodename.encode() if len(os.uname().nodename) > 3 else b"canary"):
        assert canary not in everything


@pytest.mark.torch
def test_report_of_a_run_is_one_file(real_run: tuple[Path, "subprocess.CompletedProcess[str]"], tmp_path: Path) -> None:
    out, _ = real_run
    (folder,) = out.iterdir()
    assert main(["report", str(folder), "--out", str(tmp_path / "r.html")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_chosen_gpu_of_several_and_its_warnings_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shown = {
        "torch_name": "cuda:1",
        "name": "Big",
        "choice": "the largest usable of 2 GPUs",
        "warnings": ("it is slow",),
    }
    monkeypatch.setattr("sdbench.plan.make_plan.choose_device", lambda _: choose_device("cpu").model_copy(update=shown))
    out = ["--out", str(tmp_path)] if command == "run" else []
    # Each experiment is skipped.
    assert main([command, str(SMOKE), "--set", "device=cuda", *out]) in (0, exit_codes.ALL_SKIPPED)
    output = "".join(capsys.readouterr())
    assert "cuda:1 (Big), the largest usable of 2 GPUs" in output
    assert "sdbench: warning: it is slow\n" in output
