import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem, RecordError
from sdbench.runner import run as run_module
from sdbench.runner.events import RunEvent
from sdbench.runner.folder import resume_key
from sdbench.runner.run import run
from sdbench.schema.base import Unknown
from sdbench.schema.outcome import Failed, OutOfMemory, Skipped, Succeeded, TimedOut, launches_of
from sdbench.schema.record import Result
from sdbench.store.bundle import load_record, verify_files
from sdbench.store.journal import read_journal
from sdbench.store.lock import hold_device
from sdbench.store.run import load_run
from tests.fingerprints import make_fingerprint
from tests.runner.setups import make_spec

pytestmark = pytest.mark.usefixtures("_both_isolations")


def ignore(_event: RunEvent) -> None:
    pass


def outcome_of(tmp_path: Path, prompt: str, timeout_s: float = 60) -> Any:
    return run(make_spec(tmp_path, prompt, timeout_s=timeout_s), ignore).record.results[0].outcome


def test_conditions_of_a_launch_are_those_of_the_stage_that_the_worker_measured(tmp_path: Path) -> None:
    launch = outcome_of(tmp_path, "good").launches[0]

    # The fake worker measures nothing, in no time.
    assert isinstance(launch.conditions.steal_ratio, Unknown)
    assert "the measured stage was shorter than a CPU second" in launch.conditions.steal_ratio.reason


def test_good_workers_yield_a_sealed_record_with_every_sample(tmp_path: Path) -> None:
    result = run(make_spec(tmp_path, "good"), ignore)
    outcome = result.record.results[0].outcome
    assert isinstance(outcome, Succeeded)
    assert [launch.index for launch in outcome.launches] == [0, 1]
    assert result.record.ended == "complete"
    assert load_record(result.folder) == result.record
    verify_files(result.folder, result.record)
    assert {launch.index for launch in load_run(result.folder).telemetry} == {0, 1}


def test_trace_of_the_first_launch_is_a_file_that_the_record_names(tmp_path: Path) -> None:
    result = run(make_spec(tmp_path, "trace"), ignore)
    name = f"traces/{result.record.results[0].planned.experiment_id}-0.json.gz"
    assert (result.folder / name).read_bytes() == b"a trace"
    assert [item.path for item in result.record.files if item.path.startswith("traces/")] == [name]
    verify_files(result.folder, result.record)
    (result.folder / name).write_bytes(b"another")
    with pytest.raises(RecordError, match="changed after the record was sealed"):
        verify_files(result.folder, result.record)


def test_launches_go_in_rounds_over_all_experiments(tmp_path: Path) -> None:
    events: list[RunEvent] = []
    run(make_spec(tmp_path, "good", "good:2"), events.append)
    assert [event.launch_index for event in events if event.kind == "launch"] == [0, 0, 1, 1]


def test_worker_sees_only_its_gpu_and_the_record_does_not_name_it(tmp_path: Path) -> None:
    uuid, seen = "GPU-0ddba115-4444-4555-8666-fedcbafedcba", tmp_path / "seen"
    spec = make_spec(tmp_path / "out", f"device:{seen}")
    gpu = {"kind": "cuda", "index": 1, "uuid": uuid, "torch_name": "cuda:1", "lock_key": f"test-{tmp_path}"}
    device = spec.plan.device.model_copy(update=gpu)
    result = run(replace(spec, plan=replace(spec.plan, device=device)), ignore)

    # For a template as for a worker that is spawned.
    assert seen.read_text() == f"cuda:0 {uuid} PCI_BUS_ID"
    assert result.record.device == "cuda:1"
    written = [path.read_bytes() for path in result.folder.rglob("*") if path.is_file()]
    assert b"no kernel image on" in b"".join(written)
    assert not any(b"0ddba115" in text for text in written)


def test_worker_that_crashes_yields_a_failed_outcome_and_the_run_continues(tmp_path: Path) -> None:
    record = run(make_spec(tmp_path, "crash", "good"), ignore).record
    first, second = (result.outcome for result in record.results)
    assert isinstance(first, Failed)
    assert first.error_type == "Killed"
    assert "SIGABRT" in first.message
    assert isinstance(second, Succeeded)


def test_worker_that_exits_without_a_result_yields_its_last_line_of_output(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, "exit")
    assert isinstance(outcome, Failed)
    assert "status 7" in outcome.message
    assert "giving up" in outcome.stderr_tail


def test_worker_that_hangs_is_killed_and_reports_where_it_hung(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, "hang", timeout_s=2)
    assert isinstance(outcome, TimedOut)
    assert outcome.stage == "load"
    assert "fake_worker.py" in outcome.stderr_tail


def test_worker_that_writes_garbage_is_stopped(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, "garbage")
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "ProtocolError"


def test_noise_on_the_workers_output_does_no_harm(tmp_path: Path) -> None:
    assert isinstance(outcome_of(tmp_path, "noise"), Succeeded)


def test_worker_that_lingers_after_its_result_still_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.runner.process.EXIT_GRACE_S", 0.3)
    assert isinstance(outcome_of(tmp_path, "linger"), Succeeded)


def test_worker_whose_child_keeps_its_pipes_open_is_not_waited_for(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, "orphan")
    assert isinstance(outcome, Failed)
    assert "status 3" in outcome.message


def test_device_out_of_memory_is_an_outcome_of_its_own(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, "oom")
    assert isinstance(outcome, OutOfMemory)
    assert outcome.where == "device"


def test_kill_without_an_out_of_memory_event_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.runner.process.count_out_of_memory_kills", lambda: 3)
    outcome = outcome_of(tmp_path, "killed")
    assert isinstance(outcome, Failed)
    assert "SIGKILL" in outcome.message


def test_kill_by_the_kernel_for_memory_is_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the ceilings at the start, of the launch, and of the ceilings at the end.
    counts = iter((3, 3, 3, 4, 4, 4))
    monkeypatch.setattr("sdbench.runner.process.count_out_of_memory_kills", lambda: next(counts))
    outcome = outcome_of(tmp_path, "killed")
    assert isinstance(outcome, OutOfMemory)
    assert outcome.where == "host"


def test_home_in_an_error_message_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/canary-user")
    result = run(make_spec(tmp_path, "raise"), ignore)
    everything = b"".join(path.read_bytes() for path in result.folder.rglob("*") if path.is_file())
    assert b"canary-user" not in everything
    assert b"secret" in everything


def test_skipped_experiments_are_recorded_with_the_reason(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    skip = Skipped(reason="no such device", hint="get one")
    spec = make_spec(tmp_path, "good", skipped={spec.plan.planned[0].experiment_id: skip})
    assert run(spec, ignore).record.results[0].outcome == skip


def test_budget_ends_the_run_and_is_named_in_the_record(tmp_path: Path) -> None:
    record = run(make_spec(tmp_path, "good", "good:2", budget_s=1e-9), ignore).record
    assert [type(result.outcome) for result in record.results] == [Succeeded, Skipped]
    assert "budget" in json.dumps(record.to_json_dict()["results"])


def test_budget_limits_the_timed_calls_of_a_launch_and_its_record_says_so(tmp_path: Path) -> None:
    def measure(budget_s: float | None) -> tuple[list[float | None], list[float | None]]:
        events: list[RunEvent] = []
        record = run(make_spec(tmp_path / str(budget_s), "good", "good:2", budget_s=budget_s), events.append).record
        sent = [event.latency_s for event in events if event.kind == "sample" and event.text == "sample"]
        launches = [launch for result in record.results for launch in launches_of(result.outcome)]
        assert all(result.planned.protocol.launch_budget_s == 600 for result in record.results)
        return sent, [launch.calls_limit_s for launch in launches]

    assert measure(None) == ([600.0] * 4, [None] * 4)
    sent, recorded = measure(100.0)
    assert set(sent) == set(recorded)
    assert all(limit_s is not None and 1 < limit_s < 100 for limit_s in recorded)


def interrupt_on(kind: str, launch_index: int) -> Any:
    def listener(event: RunEvent) -> None:
        if event.kind == kind and event.launch_index == launch_index:
            raise KeyboardInterrupt

    return listener


def test_interrupt_seals_what_is_there_and_the_same_run_continues(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good", "good:2")
    interrupted = run(spec, interrupt_on("sample", 1))
    assert interrupted.record.ended == "interrupted"
    load_record(interrupted.folder)
    verify_files(interrupted.folder, interrupted.record)
    events: list[RunEvent] = []
    finished = run(spec, events.append)
    assert finished.folder == interrupted.folder
    assert finished.record.ended == "complete"
    assert any(event.kind == "resumed" for event in events)
    first = interrupted.record.results[0].outcome
    last = finished.record.results[0].outcome
    assert isinstance(first, Succeeded)
    assert isinstance(last, Succeeded)
    assert last.launches[: len(first.launches)] == first.launches


def test_complete_run_is_not_resumed_but_started_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    assert run(spec, ignore).folder != run(spec, ignore).folder


def test_fresh_starts_over_next_to_an_unfinished_run(tmp_path: Path) -> None:
    first = run(make_spec(tmp_path, "good"), interrupt_on("sample", 1))
    again = run(make_spec(tmp_path, "good", fresh=True), ignore)
    assert again.folder != first.folder


def test_torn_last_line_is_cut_and_its_launch_measured_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    folder = run(spec, interrupt_on("sample", 1)).folder
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    record = run(spec, ignore).record
    assert record.ended == "complete"
    entries, _ = read_journal(journal)
    assert [entry["kind"] for entry in entries] == ["start", "ceilings", "resume", "launch", "launch", "ceilings"]


def test_damage_in_the_middle_of_a_journal_names_the_line(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    folder = run(spec, interrupt_on("sample", 1)).folder
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines.insert(1, b'{"crc32":"00000000","entry":{}}\n')
    journal.write_bytes(b"".join(lines))
    with pytest.raises(RecordError, match=r"journal\.jsonl:2: the line is damaged"):
        run(spec, ignore)


def test_damaged_journal_leaves_the_sealed_record_alone(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    folder = run(spec, interrupt_on("sample", 1)).folder
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"damage\n", *lines[1:]]))
    with pytest.raises(RecordError):
        run(spec, ignore)
    assert (folder / "record.json").is_file()


def test_second_run_on_a_device_reports_that_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(tmp_path, "good")
    events: list[RunEvent] = []

    class Waited(Exception):
        pass

    def listener(event: RunEvent) -> None:
        events.append(event)
        raise Waited

    with hold_device(spec.plan.device.lock_key, lambda _who: None), pytest.raises(Waited):
        run(spec, listener)
    assert events[0].kind == "waiting"
    assert "held by process" in events[0].text


def test_who_waits_reads_what_the_other_run_measures_and_until_when(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    holders: list[str] = []

    def look(event: RunEvent) -> None:
        if event.kind == "launch" and not holders:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(wait_for_device, spec.plan.device.lock_key, holders).result()

    run(spec, look)
    assert re.fullmatch(rf"process {os.getpid()} \(fake.yaml, at most until about \d\d:\d\d\)", holders[0])


def wait_for_device(lock_key: str, holders: list[str]) -> None:
    class Waited(Exception):
        pass

    def on_wait(holder: str) -> None:
        holders.append(holder)
        raise Waited

    with pytest.raises(Waited), hold_device(lock_key, on_wait):
        pytest.fail("the device is held")


def test_simulated_run_does_not_wait_for_the_device(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    planned = tuple(
        item.model_copy(update={"experiment": item.experiment.model_copy(update={"backend": "virtual"})})
        for item in spec.plan.planned
    )
    events: list[RunEvent] = []
    with hold_device(spec.plan.device.lock_key, lambda _who: None):
        run(replace(spec, plan=replace(spec.plan, planned=planned)), events.append)
    assert not [event for event in events if event.kind == "waiting"]


def test_finished_launch_carries_the_estimate_and_the_place_of_its_experiment(tmp_path: Path) -> None:
    events: list[RunEvent] = []
    run(make_spec(tmp_path, "good", "good:2"), events.append)
    launched = [event for event in events if event.kind == "launched"]
    assert [(event.number, event.launch_index, event.launch_count) for event in launched] == [
        (1, 0, 2),
        (2, 0, 2),
        (1, 1, 2),
        (2, 1, 2),
    ]
    assert all(event.estimate_s is not None and event.elapsed_s is not None for event in launched)


def test_full_disk_is_a_clear_error_and_what_is_written_stays_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path, "good")
    real_write, left = os.write, [6]

    def failing_write(fd: int, data: Any) -> int:
        if b'"kind":"launch"' in bytes(data):
            left[0] -= 3
            if left[0] <= 0:
                real_write(fd, bytes(data)[:10])
                raise OSError(28, "No space left on device")
        return real_write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr("sdbench.store.journal.os.write", failing_write)
        with pytest.raises(EnvironmentProblem, match=r"No space left on device.*run the same command again"):
            run(spec, ignore)
    entries, valid_bytes = read_journal(next(tmp_path.glob("*/journal.jsonl")))
    assert [entry["kind"] for entry in entries] == ["start", "ceilings", "launch"]
    assert valid_bytes == next(tmp_path.glob("*/journal.jsonl")).stat().st_size
    assert run(spec, ignore).record.ended == "complete"


def test_runner_does_not_import_the_worker() -> None:
    source = Path(run_module.__file__).parent
    assert not [path for path in source.glob("*.py") if "sdbench.worker import" in path.read_text()]


def test_run_pauses_after_its_rounds_and_the_same_run_continues(tmp_path: Path) -> None:
    first = run(make_spec(tmp_path, "good", "good too", rounds=1), ignore)
    assert first.record.ended == "paused"
    assert [launch_count(result) for result in first.record.results] == [1, 1]
    second = run(make_spec(tmp_path, "good", "good too", rounds=1), ignore)
    assert second.folder == first.folder
    assert [launch_count(result) for result in second.record.results] == [2, 2]
    assert second.record.ended == "complete"


def launch_count(result: Result) -> int:
    return len(launches_of(result.outcome))


def test_more_time_continues_the_same_run(tmp_path: Path) -> None:
    spec, fingerprint = make_spec(tmp_path, "good"), make_fingerprint()
    more_time = spec.plan.request.model_copy(update={"budget_s": 60.0})
    other = spec.plan.request.model_copy(update={"weights": "pretrained"})
    keys = [
        resume_key(replace(spec, plan=replace(spec.plan, request=item)), fingerprint) for item in (more_time, other)
    ]
    assert keys[0] == resume_key(spec, fingerprint) != keys[1]
