"""``sdbench bisect``: what it prints, and its exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbench.cli import bisect as command
from sdbench.cli.main import main
from sdbench.runner.ab import ArmCannotRun
from sdbench.store.bundle import find_runs
from tests.runner.in_process import launches_in_process
from tests.runner.test_bisect import MANIFEST

OVER = "--over=env.SDBENCH_VIRTUAL="


@pytest.fixture(autouse=True)
def _virtual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(MANIFEST)
    with launches_in_process():
        yield


def bisect(*options: str) -> int:
    return main(["bisect", "m.yaml", "--device=cpu", "--seed=1", *options])


def test_first_slower_arm_ends_with_10_and_says_how_to_repeat_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert bisect(f"{OVER}factor=1,factor=1,factor=1.05") == 10
    printed = capsys.readouterr()
    first, second, *lines = printed.out.splitlines()
    assert first.startswith("first slower: 3 (factor=1.05): +")
    assert "; 2 (factor=1), the one before it, is the same as 1" in first
    assert second.startswith("2 comparisons of 3 arms, ")
    text = "\n".join(lines)
    assert "arm 3 against arm 2: +" in text
    assert "  sdbench ab m.yaml --device cpu --only " in text
    assert "what differs between arm 2 and arm 3: " in text
    assert "comparison 1 of at most 2: arm 3, " in printed.err
    (folder,) = Path("results").glob("bisect-*")
    assert (folder / "report.html").is_file()
    # Its folder is none of a run; the runs are ordinary ones.
    assert len(find_runs(Path("results"))) == 4
    assert main(["report", *map(str, Path("results").glob("[!.]*")), "--out", "all.html"]) == 0
    assert "is a bisection's folder, its runs are next to it; skipped" in capsys.readouterr().err


def test_equal_arms_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert bisect(f"{OVER}factor=1,factor=1,factor=1", "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("nothing to find: 3 (factor=1) is the same as 1 (factor=1) within 2.0%\n")
    assert printed.err == ""


def test_json_has_the_arms_and_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert bisect(f"{OVER}factor=1", f"{OVER}factor=1.05", "--json") == 10
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["schema_"] == "sdbench/bisection/v1"
    assert (end["ended"], end["result"], end["first_bad"]) == ("complete", "found", 2)
    assert [arm["state"] for arm in end["arms"]] == ["first", "bad"]


def test_secret_of_an_arm_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert bisect("--over=env.API_KEY=hunter2hunter2,hunter3hunter3") == 0
    printed = capsys.readouterr()
    assert "hunter" not in printed.out + printed.err
    assert not [path for path in Path("results").rglob("*.jsonl") if b"hunter" in path.read_bytes()]


def test_arm_that_does_the_same_as_the_first_is_skipped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bisect("--over=virtual.latency_s=1,1.0,1.05") == 11
    printed = capsys.readouterr().out
    assert "it does the same as the first arm" in printed


def test_interrupted_bisection_ends_with_130_and_continues(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "run_ab", interrupt)
        assert bisect(f"{OVER}factor=1,factor=1.05") == 130
    assert "repeat the command to continue" in capsys.readouterr().out
    assert bisect(f"{OVER}factor=1,factor=1.05") == 10
    assert len(list(Path("results").glob("bisect-*"))) == 1


def test_what_is_not_resolved_ends_with_11(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ArmCannotRun("b", "it is too large")

    monkeypatch.setattr(command, "run_ab", refuse)
    assert bisect(f"{OVER}factor=1,factor=1.05") == 11
    assert capsys.readouterr().out.startswith(
        "not resolved between 1 (factor=1) and 2 (factor=1.05): it is too large\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--over", "threads=1"], "--over threads has 1 value"),
        ([], "invalid --over"),
        (["--over", "threads=1,2", "--gpus", "all"], "--gpus applies only with --over image=..."),
        (["--over", "image=a,b"], "--seed does not apply with images"),
        (["--over", "packages=none.txt,other.txt"], "cannot read the lock file none.txt"),
        (["--over", "nonsense=1,2"], "nonsense"),
    ],
)
def test_invalid_input_is_one_line_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert bisect(*options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
