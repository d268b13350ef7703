"""Bisections of virtual arms: real sessions, records and verdicts, with launches in this process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sdbench.compare.bisection import Bisection
from sdbench.compare.bisection_wording import describe_end, describe_step
from sdbench.compare.policy import MARGIN
from sdbench.errors import UserError
from sdbench.plan.make_plan import PlanRequest
from sdbench.probes.virtual import VARIABLE
from sdbench.runner.ab import ArmCannotRun, run_ab
from sdbench.runner.bisect import bisect
from sdbench.runner.bisect_spec import Bisected, BisectSpec, Question, parse_arms
from sdbench.store.bundle import verify_files
from sdbench.store.journal import read_journal
from sdbench.store.layout import BISECTION_JOURNAL_NAME
from sdbench.store.run import Run
from tests.runner.in_process import launches_in_process

MANIFEST = """\
schema: sdbench/manifest/v1
title: Virtual arms
model: {pipeline: tiny-sd}
defaults: {backend: virtual, height: 64, width: 64, steps: 4}
protocol: {warmup_calls: 1, calls_min: 2, calls_max: 2}
experiments:
  - id: one
    title: One
    options:
      virtual: {latency_s: 0.1, call_noise: 0.002, launch_noise: 0.002}
"""
SECOND = """\
  - id: two
    title: Two
    options:
      batch: 2
      virtual: {latency_s: 0.2, call_noise: 0.002, launch_noise: 0.002}
"""


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with launches_in_process():
        yield


class Arms:
    """Bisects virtual arms in a folder, and remembers the numbers of those that were compared."""

    def __init__(self, folder: Path, *factors: float, key: str = f"env.{VARIABLE}", manifest: str = MANIFEST) -> None:
        self.folder = folder
        path = folder / "m.yaml"
        path.write_text(manifest)
        values = tuple(f"factor={factor}" for factor in factors)
        self.spec = BisectSpec(PlanRequest(path, device="cpu"), key, values, folder / "out", MARGIN, machine="")
        self.compared: list[int] = []
        self.only: list[tuple[str, ...]] = []
        self.texts: list[str] = []
        self.before: Callable[[Question], None] = lambda _question: None

    def measure(self, question: Question) -> tuple[Run, Run]:
        self.before(question)
        self.compared.append(question.number)
        self.only.append(question.request.only)
        arms = (question.first,), (question.other,)
        return run_ab(question.request, arms, out=self.spec.out, margin=MARGIN, seed=question.number)

    def run(self, **changes: object) -> Bisected:
        return bisect(replace(self.spec, **changes), self.measure, self.texts.append)  # type: ignore[arg-type]


def ends(bisection: Bisection) -> tuple[str, int, int | None]:
    return bisection.result, bisection.last_good, bisection.first_bad


@pytest.mark.parametrize("guilty", [2, 5, 8])
def test_the_first_slower_of_eight_arms_is_found_in_four_comparisons(tmp_path: Path, guilty: int) -> None:
    arms = Arms(tmp_path, *(1.05 if number >= guilty else 1.0 for number in range(1, 9)))
    bisected = arms.run()
    bisection = bisected.bisection
    assert ends(bisection) == ("found", guilty - 1, guilty)
    assert bisection.comparison_count == len(arms.compared) <= 4
    assert bisection.direction == "slower"
    assert bisection.step is not None
    assert 1.0 < bisection.step.low < 1.05 < bisection.step.high
    assert describe_end(bisection).startswith(f"first slower: {guilty} (factor=1.05): +")
    assert all(f"--b env.{VARIABLE}=" in command for command in bisection.commands)
    for run in bisected.runs:
        verify_files(run.folder, run.record)
        assert run.record.session is not None
    assert bisection.arms[guilty - 1].runs == tuple(run.folder.name for run in bisected.runs)


def test_equal_arms_take_one_comparison_and_nobody_is_blamed(tmp_path: Path) -> None:
    arms = Arms(tmp_path, *[1.0] * 8)
    bisection = arms.run().bisection
    assert ends(bisection) == ("nothing", 8, None)
    assert arms.compared == [8]
    assert describe_end(bisection) == "nothing to find: 8 (factor=1.0) is the same as 1 (factor=1.0) within 2.0%"


def test_what_made_it_faster_is_found_too(tmp_path: Path) -> None:
    bisection = Arms(tmp_path, 1.0, 1.0, 0.9, 0.9).run().bisection
    assert (bisection.direction, bisection.first_bad) == ("faster", 3)


def test_a_faster_arm_between_is_not_bad_and_is_named(tmp_path: Path) -> None:
    bisection = Arms(tmp_path, 1.0, 0.9, 0.9, 1.1).run().bisection
    assert ends(bisection) == ("found", 3, 4)
    assert describe_end(bisection).endswith("3 (factor=0.9), the one before it, is faster than 1")


def test_a_second_culprit_is_announced(tmp_path: Path) -> None:
    bisection = Arms(tmp_path, 1.0, 1.05, 1.05, 1.2).run().bisection
    assert bisection.first_bad == 2
    assert "arm 4 changed more" in describe_step(bisection)[-1]


def test_arm_at_the_margin_ends_without_a_guess(tmp_path: Path) -> None:
    arms = Arms(tmp_path, 1.0, 1.02, 1.1, manifest=MANIFEST.replace("launch_noise: 0.002", "launch_noise: 0.03"))
    bisection = arms.run().bisection
    assert ends(bisection) == ("unresolved", 1, 3)
    assert bisection.candidates == (2, 3)
    text = describe_end(bisection)
    assert text.startswith("not resolved between 1 (factor=1.0) and 3 (factor=1.1): the first slower is one of 2 ")
    assert "crosses the margin" in text


def test_arm_that_cannot_run_is_skipped_and_named(tmp_path: Path) -> None:
    arms = Arms(tmp_path, 1.0, 1.0, 1.0, 1.1, 1.1)

    def refuse(question: Question) -> None:
        if question.number == 3:
            raise ArmCannotRun("b", "pip cannot install it")

    arms.before = refuse
    bisection = arms.run().bisection
    assert ends(bisection) == ("unresolved", 2, 4)
    assert bisection.arms[2].state == "cannot run"
    assert "one of 3 (factor=1.0), 4 (factor=1.1)" in describe_end(bisection)
    assert "could not be run (pip cannot install it)" in describe_end(bisection)


def test_arm_that_runs_out_of_memory_is_skipped_and_named(tmp_path: Path) -> None:
    bisection = Arms(tmp_path).run(key="virtual.fault", values=("none", "out-of-memory")).bisection
    assert ends(bisection) == ("unresolved", 1, None)
    assert bisection.arms[1].state == "cannot run"
    assert "out of host memory" in describe_end(bisection)


def test_the_first_arm_must_run(tmp_path: Path) -> None:
    arms = Arms(tmp_path, 1.0, 1.0)

    def refuse(_question: Question) -> None:
        raise ArmCannotRun("a", "no such image")

    arms.before = refuse
    with pytest.raises(UserError, match="cannot run: no such image"):
        arms.run()


def test_interrupted_bisection_is_continued_by_the_same_call(tmp_path: Path) -> None:
    arms = Arms(tmp_path, 1.0, 1.0, 1.0, 1.05, 1.05)

    def interrupt(_question: Question) -> None:
        if len(arms.compared) == 1:
            raise KeyboardInterrupt

    arms.before = interrupt
    first = arms.run()
    assert first.ended == "interrupted"
    assert "interrupted" in describe_end(first.bisection)
    arms.before = lambda _question: None
    second = arms.run()
    assert second.folder == first.folder
    assert ends(second.bisection) == ("found", 3, 4)
    assert arms.compared == [5, 3, 4]
    entries, _ = read_journal(second.folder / BISECTION_JOURNAL_NAME)
    assert [entry["kind"] for entry in entries] == ["start", "compared", "stopped", "compared", "compared", "ended"]
    # One that has ended is not continued, and neither is any with --fresh.
    assert arms.run().folder != second.folder


def test_fresh_and_other_arms_start_over(tmp_path: Path) -> None:
    arms = Arms(tmp_path, 1.0, 1.05, 1.05)
    arms.before = lambda _question: (_ for _ in ()).throw(KeyboardInterrupt)
    folders = [arms.run().folder, arms.run().folder, arms.run(fresh=True).folder]
    folders.append(arms.run(values=("factor=1.0", "factor=1.0")).folder)
    folders.append(arms.run(machine="another").folder)
    assert folders[0] == folders[1]
    assert len(set(folders)) == 4


def test_budget_is_of_the_whole_bisection(tmp_path: Path) -> None:
    arms = Arms(tmp_path, 1.0, 1.0, 1.05, 1.05)
    times = iter([0.0] * 2 + [99.0] * 10)
    request = replace(arms.spec.request, budget_s=90.0)
    bisected = bisect(replace(arms.spec, request=request), arms.measure, arms.texts.append, lambda: next(times))
    assert bisected.ended == "paused"
    assert arms.compared == [4]
    assert "the budget ended" in describe_end(bisected.bisection)


def test_only_experiments_that_changed_are_measured_after_the_first_comparison(tmp_path: Path) -> None:
    arms = Arms(tmp_path, 1.0, 1.0, 1.05, manifest=MANIFEST + SECOND)
    bisection = arms.run().bisection
    assert bisection.first_bad == 3
    assert len(bisection.experiments) == 2
    assert [len(only) for only in arms.only] == [0, 2]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "expected KEY=V1"),
        (["threads"], "expected KEY=V1"),
        (["threads=1"], "has 1 value; expected 2 to 1,000, from the good one to the bad one"),
        (["threads=1", "batch=2"], "with the same KEY"),
    ],
)
def test_invalid_arms_are_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_arms(texts)


def test_values_with_commas_are_given_one_an_option() -> None:
    assert parse_arms(["threads=1,2,4"]) == ("threads", ("1", "2", "4"))
    assert parse_arms(["env.X=a,b", "env.X=c"]) == ("env.X", ("a,b", "c"))


def test_invalid_value_of_a_later_arm_is_refused_before_anything_runs(tmp_path: Path) -> None:
    arms = Arms(tmp_path)
    with pytest.raises(UserError, match="threads"):
        arms.run(key="threads", values=("1", "many", "2"))
    assert arms.compared == []
