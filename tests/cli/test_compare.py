"""The commands that compare: what they print, and the exit codes a gate reads."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sdbench.cli.main import main
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.store.bundle import encode_record
from tests.compare.test_adjustment import arm
from tests.compare.test_comparison import record_of, run_of, session_of
from tests.operator_tables import SECONDS, make_arm, profile, slow_down
from tests.records import make_failed, make_record, make_result, make_succeeded

RUNS = {"before": 1.0, "after": 1.4}


def write(folder: Path, record: Record) -> str:
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(encode_record(record.to_json_dict()))
    return str(folder)


def arms(tmp_path: Path, ratio: float, blocks: int = 7) -> list[str]:
    return [write(tmp_path / str(arm), session_of((1.0, ratio)[arm], arm, blocks)) for arm in (0, 1)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No results folder to learn from."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("ratio", "blocks", "code", "word"),
    [(1.1, 7, 10, "SLOWER"), (1.0, 7, 0, "SAME"), (0.9, 7, 0, "FASTER"), (1.01, 3, 11, "INCONCLUSIVE")],
)
def test_the_exit_code_is_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ratio: float, blocks: int, code: int, word: str
) -> None:
    assert main(["compare", *arms(tmp_path, ratio, blocks)]) == code
    out = capsys.readouterr().out
    assert re.match(rf"{word}: [+-]\d", out)
    assert "\nthreads=a -> threads=b, on " in out
    assert "run-a" not in out


@pytest.mark.parametrize(
    ("ratio", "line"),
    [
        (23.0, "LEANS SLOWER: about 23x, at least 22x; 4 more blocks ("),
        (1.1, "LEANS SLOWER: about 10 %, at least "),
        (0.25, "LEANS FASTER: about 4.0x, at least 3.9x; 4 more blocks ("),
    ],
)
def test_a_large_effect_that_is_not_proven_yet_is_headed_by_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ratio: float, line: str
) -> None:
    assert main(["compare", *arms(tmp_path, ratio, 3)]) == 11
    out = capsys.readouterr().out
    assert out.startswith(line)
    main(["compare", *(str(tmp_path / name) for name in "01"), "--json"])
    assert json.loads(capsys.readouterr().out)["verdict"] == "inconclusive"


def test_what_cannot_be_compared_has_a_code_of_its_own(tmp_path: Path) -> None:
    good = write(tmp_path / "good", run_of(1.0))
    bad = write(tmp_path / "bad", record_of(make_result(make_failed()), day=2))
    assert main(["compare", good, bad]) == 12
    assert main(["compare", good, bad, "--fail-on", "slower,inconclusive"]) == 0


@pytest.mark.parametrize(("words", "code"), [("slower", 10), ("inconclusive", 0), ("", 0)])
def test_the_user_chooses_what_fails(tmp_path: Path, words: str, code: int) -> None:
    assert main(["compare", *arms(tmp_path, 1.1), "--fail-on", words]) == code


def test_json_has_the_whole_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *arms(tmp_path, 1.1), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["verdict"] == "slower"
    assert content["experiments"][0]["judgements"][0]["level"] == "block"
    assert content["experiments"][0]["why"]["status"] == "not explained"


def slowed(tmp_path: Path, operator: str = "aten::mkldnn_convolution") -> list[str]:
    """The folders of two arms of which the second takes 0.1 s longer, in one operator."""
    noise = Random(1)
    rows = {(phase, operator if "conv" in name else name): value for (phase, name), value in SECONDS.items()}
    both = (("a", rows), ("b", slow_down((operator,), 0.1, rows)))
    records = [make_arm(arm, changed, Known(value=profile(changed, noise)), noise) for arm, changed in both]
    return [write(tmp_path / record.run_id, record) for record in records]


def test_a_difference_is_explained_in_a_sentence_and_with_why_by_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = slowed(tmp_path)
    main(["compare", *folders])
    out = capsys.readouterr().out
    assert "\nwhy: +9." in out
    assert "of it is convolution: mkldnn_convolution in denoising steps took" in out
    assert "all others" not in out
    main(["compare", *folders, "--why"])
    out = capsys.readouterr().out
    assert re.search(r"denoising steps +mkldnn_convolution +140 +260\.\d+ ms +3\d\d\.\d+ ms +\+\d+\.\d+ ms +\d+ %", out)
    assert re.search(r"the call +\d+\.\d+ ms +\d+\.\d+ ms +\+\d+\.\d+ ms +100 %", out)


def test_without_a_difference_why_says_that_there_is_nothing_to_explain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compare", *arms(tmp_path, 1.0), "--why"])
    assert "why: Nothing to explain: the latencies are the same within the margin." in capsys.readouterr().out
    main(["compare", *arms(tmp_path / "more", 1.1), "--why"])
    assert "not explained: the baseline has no table of operators: only the first launch" in capsys.readouterr().out


def test_markdown_for_a_pull_request_has_verdicts_and_reasons_as_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *slowed(tmp_path, "conv|<b>@me"), "--format", "markdown"]) == 10
    out = capsys.readouterr().out
    assert out.startswith("**SLOWER: +9.")
    assert "| experiment | metric | verdict |" in out
    assert "<details><summary>operators</summary>\n\n| phase | operator |" in out
    assert "conv\\|\\<b\\>" in out
    assert "@me" not in out


def test_a_changed_record_is_refused_and_marked_when_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = arms(tmp_path, 1.0)
    path = Path(b) / "record.json"
    path.write_text(path.read_text().replace('"run-b"', '"run-c"'))
    assert main(["compare", a, b]) == 2
    assert "the seal does not match" in capsys.readouterr().err
    assert main(["compare", a, b, "--force"]) == 0
    assert "CHANGED AFTER IT WAS SEALED (--force)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "0"], "expected a fraction"),
        (["--margin", "200%"], "expected a fraction"),
        (["--fail-on", "slow"], "unknown verdict 'slow'; choose from slower, more"),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["compare", *arms(tmp_path, 1.0), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_json_and_markdown_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["compare", *arms(tmp_path, 1.0), "--json", "--format", "markdown"])
    assert exit_code.value.code == 2
    assert "not allowed with argument --json" in capsys.readouterr().err


def test_a_truncated_record_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = arms(tmp_path, 1.0)
    path = Path(b) / "record.json"
    path.write_text(path.read_text()[:-100])
    assert main(["compare", a, b]) == 2
    assert "not valid JSON" in capsys.readouterr().err


def test_runs_of_two_machines_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "mixed" / "one", run_of(1.0))
    write(tmp_path / "mixed" / "two", record_of(run_of(1.0).results[0], day=2, device="cpu"))
    other = write(tmp_path / "other", run_of(1.0, day=3))
    assert main(["compare", str(tmp_path / "mixed"), other]) == 2
    assert "2 machines" in capsys.readouterr().err


def set_by_an_arm(record: Record, setting: str) -> Record:
    assert record.session is not None
    session = record.session.model_copy(update={"settings": Known(value=(setting,))})
    return record.model_copy(update={"session": session, "run_id": setting})


def test_untrusted_strings_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = session_of(1.0, 0)
    untrusted = set_by_an_arm(record, "[red]<script>[/red]")
    a, b = write(tmp_path / "a", untrusted), write(tmp_path / "b", session_of(1.0, 1))
    assert main(["compare", a, b]) == 0
    assert "[red]<script>[/red]" in capsys.readouterr().out


def test_no_text_of_a_record_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = set_by_an_arm(session_of(1.0, 0), "\x1b[2J\x07\u202e")
    a, b = write(tmp_path / "a", record), write(tmp_path / "b", session_of(1.0, 1))
    main(["compare", a, b])
    out = capsys.readouterr().out
    assert r"\x1b[2J\x07\u202e" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


def test_one_run_is_not_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "a", run_of(1.0))
    assert main(["compare", run, run]) == 2
    assert "baseline and candidate both contain the run" in capsys.readouterr().err


def test_diff_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write(tmp_path / day, run_of(1.0, day=int(day), driver=day)) for day in ("1", "2")]
    assert main(["diff", *runs]) == 0
    out = capsys.readouterr().out
    assert out.startswith("only the driver differs (1 and 2)")
    assert "  gpu_kernel_driver: 1 / 2" in out
    main(["diff", *runs, "--json"])
    assert json.loads(capsys.readouterr().out)["differences"][0]["field"] == "software.gpu_kernel_driver"


def test_trend_prints_each_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(1, 5):
        driver = "570.1" if day < 3 else "580.1"
        record = run_of(1.0 if day < 3 else 1.2, day=day, driver=driver)
        write(tmp_path / "runs" / str(day), record)
    assert main(["trend", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "570.1 -> 580.1: slower +20.00 %" in out
    assert "    also changed there: nothing that is known" in out


def test_trend_names_an_odd_session_and_follows_the_device_that_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in range(1, 13):
        write(tmp_path / "runs" / str(day), run_of(0.9 if day == 7 else 1.0 + day / 1000, day=day, driver=f"{day}.0"))
    write(tmp_path / "runs" / "cpu", record_of(make_result(make_succeeded()), device="cpu"))
    assert main(["trend", str(tmp_path / "runs")]) == 2
    assert "choose one with --where device=cuda:0" in capsys.readouterr().err
    assert main(["trend", str(tmp_path / "runs"), "--where", "device=cuda:0"]) == 0
    assert "possible outlier or change: 7.0: -10." in capsys.readouterr().out
    assert main(["trend", str(tmp_path / "runs"), "--where", "device=cuda:7"]) == 2
    assert "no run meets every --where" in capsys.readouterr().err


def test_ab_refuses_arms_that_do_not_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "any.yaml"
    manifest.write_text("""\
schema: sdbench/manifest/v1
title: Any
defaults: {pipeline: tiny-sd, backend: virtual}
experiments:
  - {id: any, title: Any, matrix: {batch: [1, 2]}}
""")
    cases: list[tuple[list[str], str]] = [
        (["--a", "batch=1", "--b", "threads=1"], "arm A has 1 experiments and arm B 2"),
        ([], "--a is missing"),
        (["--a", "threads=1"], "--b is missing"),
        (["--a", "batch=1", "--b", "batch=2"], "--b batch=2: the arms would do different work, batches of 1 and 2"),
        (["--a", "steps=4", "--b", "steps=8"], "--b steps=8: the arms would do different work, 5 and 9 denoiser calls"),
        (["--a", "scheduler=euler", "--b", "threads=1"], "--a scheduler=euler: the arms would do different work, 50"),
        (["--a", "width=64", "--b", "threads=1"], "--a width=64: the arms would do different work, images of 64x512"),
        (["--a", "backend=virtual", "--b", "backend=pytorch"], "--b backend=pytorch: the arms would do different"),
        (["--a", "attention=sdpa", "--b", "precision=fp32"], "both arms are identical: attention=sdpa and prec"),
        (["--a", "threads=1", "--b", "threads=1024"], "arm B cannot run here: 1024 threads requested"),
        (["--a", "image=x", "--b", "batch=1"], "images are compared alone"),
        (["--a", "image=x", "--a", "batch=1", "--b", "image=y"], "images are compared alone"),
        (["--a", "image=x", "--b", "image=y", "--seed", "1"], "--seed does not apply with images; remove it"),
        (["--a", "threads=1", "--b", "env.1=x"], "expected env.NAME=VALUE"),
        (["--a", "nonsense=1", "--b", "threads=1"], "unknown option"),
    ]
    for arguments, message in cases:
        assert main(["ab", str(manifest), *arguments, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_selfcheck_reports_how_well_the_rules_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdbench.cli.selfcheck.find_spec", lambda _name: None)
    assert main(["selfcheck", "--trials", "2000", "--out", str(tmp_path / "aa.md")]) in (0, 1)
    page = (tmp_path / "aa.md").read_text()
    assert "| golden cases | 10 of 10 | all | yes |" in page
    assert "Not measured: torch is not installed here" in page
    assert main(["selfcheck", "--trials", "2000", "--json"]) in (0, 1)
    content: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(content["identical"]) >= 8


def test_ab_ends_with_the_command_that_continues_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "any.yaml").write_text("""\
schema: sdbench/manifest/v1
title: Any
defaults: {pipeline: tiny-sd, backend: virtual, steps: 4}
experiments:
  - {id: any, title: Any}
""")
    arms = ["--a", "env.TOKEN=hunter2", "--b", "env.TOKEN=hunter3"]
    # Room for the block that is taken in any case, and for no other.
    assert main(["ab", "any.yaml", *arms, "--budget", "1ms"]) == 11
    captured = capsys.readouterr()
    assert "1.00 ms is enough for about 1 of at least 7 blocks needed for a verdict; use --budget 1m" in captured.err
    command = captured.out.splitlines()[1].split()
    assert command[:3] == ["sdbench", "ab", "any.yaml"]
    assert "hunter" not in captured.out
    assert command[-2] == "--budget"
    assert command[-1].endswith("m")
    assert main(["ab", "any.yaml", *arms, "--budget", "2ms", "--json"]) == 11
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["kind"] == "resumed"
    assert lines[-1]["experiments"][0]["judgements"][0]["units"] == [2, 2]
    assert lines[-1]["continue"].split()[:-1] == command[:-1]
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_reason_that_all_experiments_share_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, latency_s in (("a", 0.25), ("b", 0.27)):
        results = tuple(make_result(make_succeeded(latency_s, 1), batch=batch) for batch in (1, 2, 3))
        write(tmp_path / name, make_record(run_id=name, results=results))
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    reasons = [line for line in capsys.readouterr().out.splitlines() if line.startswith("inconclusive: ")]
    assert len(reasons) == 1
    assert reasons[0].startswith("inconclusive: 3 experiments: ")


def test_one_run_each_is_told_how_many_more_would_do_and_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write(tmp_path / name, run_of(latency_s, day=day)) for day, (name, latency_s) in enumerate(RUNS.items(), 1)]
    main(["compare", *runs])
    *_, lead, command = capsys.readouterr().out.splitlines()
    assert lead == ("to resolve it: at least 1 more run of each, then compare the folders of runs; one more run:")
    assert command == "  sdbench run manifests/quick.yaml --device auto --budget 255s"


def test_ratio_at_equal_reference_is_a_row_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = [write(tmp_path / name, arm(name, reference_change=change)) for name, change in (("a", 0.0), ("b", 0.05))]
    main(["compare", *moved])
    output = capsys.readouterr().out
    assert "latency, adjusted" in output
    assert "reference +5." in output
    assert "the reference operation itself changed by +5." in output
    used = [write(tmp_path / f"{name} used", arm(name)) for name in "ab"]
    main(["compare", *used])
    output = capsys.readouterr().out
    assert output.index("latency, adjusted") < output.index("latency, plain")
    assert "adjusted: " not in output
