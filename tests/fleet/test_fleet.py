"""A fleet on machines that do what the test prescribes: lost ones, damaged runs, a driver that dies, two drivers."""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.fleet.fleet import Event, FleetSpec, KindState, Lost, run_fleet
from sdbench.fleet.node_job import NodeJob, NodeResult, sealed_runs
from sdbench.plan.manifest_file import load_manifest
from sdbench.store.bundle import load_record
from sdbench.store.journal import Journal, read_journal
from sdbench.store.layout import FLEET_JOURNAL_NAME
from sdbench.store.lock import hold_file
from tests.runs import make_run

MANIFEST = """schema: sdbench/manifest/v1
title: A fleet
experiments:
  - {id: one, title: One, options: {pipeline: tiny-sd}}
"""
GONE = Lost("the machine is gone", node_is_gone=True)
DIED = Lost("its worker died", node_is_gone=False)


class Machines:
    """A cluster whose machines answer what the test prescribes, attempt by attempt."""

    def __init__(self, answers: Mapping[str, Sequence[Event]], kinds: Mapping[str, Sequence[str]]) -> None:
        self.answers = {node: deque(events) for node, events in answers.items()}
        self.kinds = {kind: list(nodes) for kind, nodes in kinds.items()}
        self.started: list[tuple[str, str]] = []
        self.cleared: list[str] = []
        self.waiting: deque[tuple[str, Event]] = deque()

    def nodes(self) -> Mapping[str, Sequence[str]]:
        return self.kinds

    def start(self, job: NodeJob, node: str) -> None:
        self.started.append((job.kind, node))
        answer = self.answers[node].popleft()
        self.waiting.append((job.kind, "0/1 launch 1"))
        self.waiting.append((job.kind, answer))
        if isinstance(answer, Lost) and answer.node_is_gone:
            self.kinds[job.kind].remove(node)

    def events(self) -> Iterator[tuple[str, Event]]:
        yield self.waiting.popleft()

    def clear(self, job: NodeJob, node: str) -> None:
        self.cleared.append(f"{job.kind} {node}")

    def close(self) -> str:
        return ""


@pytest.fixture
def spec(tmp_path: Path) -> FleetSpec:
    path = tmp_path / "fleet.yaml"
    path.write_text(MANIFEST)
    return FleetSpec(load_manifest(path), "fleet.yaml", (), None, (), tmp_path / "out", "stand-in")


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, NodeResult]:
    """A complete run of each of three machines."""
    results = {}
    for name in ("a", "b", "c"):
        make_run(tmp_path / name / f"run-{name}")
        results[name] = NodeResult(0, sealed_runs(tmp_path / name))
    return results


def run(spec: FleetSpec, machines: Machines) -> tuple[KindState, ...]:
    return run_fleet(spec, machines, lambda _: None)[1]


def states(kinds: Sequence[KindState]) -> dict[str, str]:
    return {state.job.kind: state.state for state in kinds}


def test_one_machine_of_each_kind_measures_and_all_records_are_in_one_place(
    spec: FleetSpec, runs: dict[str, NodeResult]
) -> None:
    machines = Machines({"1": [runs["a"]], "3": [runs["b"]]}, {"A100": ["1", "2"], "T4": ["3"]})
    end = run(spec, machines)
    assert states(end) == {"A100": "done", "T4": "done"}
    assert [state.folders for state in end] == [("run-a",), ("run-b",)]
    assert {load_record(spec.out / name).run_id for state in end for name in state.folders} == {"run-a", "run-b"}
    assert machines.cleared == ["A100 1", "T4 3"]


def test_lost_machine_is_replaced_by_one_of_its_kind_where_the_run_starts_from_scratch(
    spec: FleetSpec, runs: dict[str, NodeResult]
) -> None:
    machines = Machines({"1": [GONE], "2": [runs["a"]], "3": [runs["b"]]}, {"A100": ["1", "2"], "T4": ["3"]})
    end = run(spec, machines)
    assert states(end) == {"A100": "done", "T4": "done"}
    assert [node for kind, node in machines.started if kind == "A100"] == ["1", "2"]


def test_kind_without_a_machine_left_is_reported_lost_and_the_others_are_whole(
    spec: FleetSpec, runs: dict[str, NodeResult]
) -> None:
    machines = Machines({"1": [GONE], "3": [runs["b"]]}, {"A100": ["1"], "T4": ["3"]})
    end = run(spec, machines)
    assert states(end) == {"A100": "lost", "T4": "done"}
    assert end[0].why == "the machine is gone"
    assert [state.folders for state in end] == [(), ("run-b",)]


def test_worker_that_dies_gets_a_second_chance_on_its_machine_and_no_third(
    spec: FleetSpec, runs: dict[str, NodeResult]
) -> None:
    machines = Machines({"1": [DIED, DIED], "2": [runs["a"]]}, {"A100": ["1", "2"]})
    assert states(run(spec, machines)) == {"A100": "done"}
    assert [node for _, node in machines.started] == ["1", "1", "2"]


def test_process_that_is_killed_is_no_failure_of_what_is_measured(spec: FleetSpec, runs: dict[str, NodeResult]) -> None:
    machines = Machines({"1": [NodeResult(-9, ()), runs["a"]]}, {"A100": ["1"]})
    assert states(run(spec, machines)) == {"A100": "done"}
    assert [node for _, node in machines.started] == ["1", "1"]


def test_run_that_arrives_damaged_is_not_kept(spec: FleetSpec, runs: dict[str, NodeResult]) -> None:
    (files,) = runs["a"].runs
    torn = NodeResult(0, ({**files, "telemetry.jsonl": files["telemetry.jsonl"][:-9]},))
    machines = Machines({"1": [torn, runs["a"]]}, {"A100": ["1"]})
    end = run(spec, machines)
    assert states(end) == {"A100": "done"}
    assert [path.name for path in spec.out.iterdir() if not path.name.startswith((".fleet-", "fleet-"))] == ["run-a"]


def test_machine_that_gives_no_record_has_failed_and_says_why(spec: FleetSpec) -> None:
    machines = Machines({"1": [NodeResult(3, (), "first\nsdbench: no CUDA here")]}, {"A100": ["1"]})
    end = run(spec, machines)
    assert states(end) == {"A100": "failed"}
    assert end[0].why == "sdbench: no CUDA here"


def test_unknown_kind_is_refused_at_once(spec: FleetSpec) -> None:
    requested = FleetSpec(spec.loaded, "fleet.yaml", ("A1000",), None, (), spec.out, "stand-in")
    machines = Machines({}, {"A100": ["1"], "T4": ["2"]})
    with pytest.raises(UserError, match=r"--kinds 'A1000': no machine of this kind; nearest: 'A100'"):
        run(requested, machines)
    with pytest.raises(UserError, match="no usable machine"):
        run(spec, Machines({}, {}))
    assert machines.started == []
    assert not spec.out.exists()


class Killed(BaseException):
    """What no code of ours catches."""


class Mortal(Machines):
    """Machines whose driver dies after so many events."""

    def __init__(self, lives: int, answers: Mapping[str, Sequence[Event]], kinds: Mapping[str, Sequence[str]]) -> None:
        super().__init__(answers, kinds)
        self.lives = lives

    def events(self) -> Iterator[tuple[str, Event]]:
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        yield from super().events()


@pytest.mark.parametrize("lives", range(5))
def test_driver_that_dies_anywhere_resumes_with_nothing_lost_and_nothing_twice(
    spec: FleetSpec, runs: dict[str, NodeResult], lives: int
) -> None:
    kinds = {"A100": ["1"], "T4": ["2"]}
    answers = {"1": [runs["a"]] * 2, "2": [runs["b"]] * 2}
    mortal = Mortal(lives, answers, kinds)
    with pytest.raises(Killed):
        for _ in range(2):  # 4 events are a whole fleet: the next one dies at its start
            run(spec, mortal)
    done = [entry["job"] for path in spec.out.glob(f"*/{FLEET_JOURNAL_NAME}") for entry in read_journal(path)[0]
            if entry["kind"] == "done"]  # fmt: skip
    again = Machines(answers, kinds)
    end = run(spec, again)
    assert states(end) == {"A100": "done", "T4": "done"}
    assert sorted(path.name for path in spec.out.glob("run-*")) == ["run-a", "run-b"]
    if lives < 4:
        # What was acknowledged before is not measured again.
        counts: defaultdict[str, int] = defaultdict(int)
        for kind, _ in again.started:
            counts[kind] += 1
        assert counts == {kind: 1 for kind in kinds if kind not in done}


def test_two_drivers_of_one_fleet_are_refused(spec: FleetSpec, runs: dict[str, NodeResult]) -> None:
    machines = Mortal(1, {"1": [runs["a"]]}, {"A100": ["1"]})
    with pytest.raises(Killed):
        run(spec, machines)
    (lock,) = spec.out.glob(".fleet-*.lock")
    with (
        hold_file(lock, refusal="held"),
        pytest.raises(EnvironmentProblem, match="another driver runs this fleet"),
    ):
        run(spec, Machines({"1": [runs["a"]]}, {"A100": ["1"]}))


def test_run_of_the_same_id_with_other_content_is_not_replaced(
    spec: FleetSpec, runs: dict[str, NodeResult], tmp_path: Path
) -> None:
    make_run(spec.out / "run-a", created_utc="2026-01-15T09:00:00Z")
    before = (spec.out / "run-a" / "record.json").read_bytes()
    machines = Machines({"1": [runs["a"], runs["a"]]}, {"A100": ["1"]})
    assert states(run(spec, machines)) == {"A100": "lost"}
    assert (spec.out / "run-a" / "record.json").read_bytes() == before


def test_resumed_fleet_is_that_of_the_journal_whatever_machines_are_there_now(
    spec: FleetSpec, runs: dict[str, NodeResult]
) -> None:
    mortal = Mortal(2, {"1": [runs["a"]], "2": [runs["b"]]}, {"A100": ["1"], "T4": ["2"]})
    with pytest.raises(Killed):
        run(spec, mortal)
    # The machine that was done with is gone, and one of another kind came.
    again = Machines({"2": [runs["b"]], "3": [runs["a"]]}, {"T4": ["2"], "L4": ["3"]})
    assert states(run(spec, again)) == {"A100": "done", "T4": "done"}
    assert again.started == [("T4", "2")]
    assert len(list(spec.out.glob("fleet-*"))) == 1


def test_kind_that_was_lost_is_tried_again_by_the_same_command_and_no_other_is(
    spec: FleetSpec, runs: dict[str, NodeResult]
) -> None:
    kinds = {"A100": ["1"], "T4": ["2"]}
    assert states(run(spec, Machines({"1": [runs["a"]], "2": [GONE]}, kinds))) == {"A100": "done", "T4": "lost"}
    again = Machines({"2": [runs["b"]]}, kinds)
    assert states(run(spec, again)) == {"A100": "done", "T4": "done"}
    assert again.started == [("T4", "2")]
    # What is complete is not resumed.
    again = Machines({"1": [runs["a"]], "2": [runs["b"]]}, kinds)
    run(spec, again)
    assert len(again.started) == 2


def test_fresh_fleet_leaves_the_open_one_alone(spec: FleetSpec, runs: dict[str, NodeResult]) -> None:
    kinds = {"A100": ["1"], "T4": ["2"]}
    run(spec, Machines({"1": [runs["a"]], "2": [GONE]}, kinds))
    again = Machines({"1": [runs["a"]], "2": [runs["b"]]}, kinds)
    run(replace(spec, fresh=True), again)
    assert len(again.started) == 2


def test_lost_machine_stays_lost_for_a_driver_that_resumes(spec: FleetSpec, runs: dict[str, NodeResult]) -> None:
    kinds = {"A100": ["1", "2"]}
    with pytest.raises(Killed):
        run(spec, Mortal(2, {"1": [GONE], "2": [runs["a"]]}, kinds))
    again = Machines({"2": [runs["a"]]}, kinds)
    assert states(run(spec, again)) == {"A100": "done"}
    assert again.started == [("A100", "2")]


def test_driver_that_dies_between_keeping_a_run_and_saying_so_does_not_measure_again(
    spec: FleetSpec, runs: dict[str, NodeResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Journal.append

    def die(self: Journal, entry: dict[str, Any]) -> None:
        if entry["kind"] == "done":
            raise Killed
        append(self, entry)

    kinds = {"A100": ["1"]}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Journal, "append", die)
        run(spec, Machines({"1": [runs["a"]]}, kinds))
    again = Machines({}, {})
    assert states(run(spec, again)) == {"A100": "done"}
    assert again.started == []


def test_damaged_journal_of_another_fleet_is_left_alone(spec: FleetSpec, runs: dict[str, NodeResult]) -> None:
    other = spec.out / "fleet-old" / FLEET_JOURNAL_NAME
    other.parent.mkdir(parents=True)
    other.write_bytes(b"no journal\nand torn")
    assert states(run(spec, Machines({"1": [runs["a"]]}, {"A100": ["1"]}))) == {"A100": "done"}
    assert other.read_bytes() == b"no journal\nand torn"
