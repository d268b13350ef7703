"""Bisection of an ordered list of arms: each comparison is a session of ``ab``, and a journal has those that were made.

The journal names the runs, and what they show is read from them again: a bisection that is resumed decides as one that
was not interrupted.
"""

import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sdbench.compare.bisection import (
    FIRST,
    Answer,
    Bisection,
    ComparedArm,
    Direction,
    Kind,
    Result,
    answer,
    choose_followed,
    count_at_most,
    find_edges,
    is_only_a_part,
    measure_step,
    next_arm,
)
from sdbench.compare.comparison import Comparison, compare_runs
from sdbench.compare.differences import compare_fingerprints, compare_libraries
from sdbench.compare.repeat import make_command
from sdbench.errors import UserError
from sdbench.plan.expand import parse_settings
from sdbench.plan.make_plan import PlanRequest, request_arguments
from sdbench.plan.manifest_file import load_manifest
from sdbench.plan.shipped import find_manifest
from sdbench.privacy import Redactor
from sdbench.runner.ab import ArmCannotRun, hide_secret
from sdbench.runner.environments import PACKAGES, WHEELS
from sdbench.runner.folder import check_output_folder, utc_now
from sdbench.runner.outcome import describe_end
from sdbench.runner.state import Ended
from sdbench.schema.base import sha256_of
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record
from sdbench.store.files import make_folder
from sdbench.store.journal import Journal, cut_torn_tail, read_journal
from sdbench.store.layout import BISECTION_JOURNAL_NAME
from sdbench.store.lock import hold_file
from sdbench.store.run import Run, load_run

ARMS_MIN = 2
ARMS_MAX = 1000
Emit = Callable[[str], None]


class Question(NamedTuple):
    """The settings of the first arm and of another one, its number from 1, and the request for both."""

    request: PlanRequest
    first: str
    other: str
    number: int


Measure = Callable[[Question], tuple[Run, Run]]


@dataclass(frozen=True)
class BisectSpec:
    """An ordered list of arms, each a setting ``KEY=VALUE``, and how they are measured.

    ``machine`` is the hash of what earlier comparisons hold for; ``fresh`` starts over instead of resuming.
    """

    request: PlanRequest
    key: str
    values: tuple[str, ...]
    out: Path
    margin: float
    machine: str
    fresh: bool = False

    @property
    def settings(self) -> tuple[str, ...]:
        """The setting of each arm."""
        return tuple(f"{self.key}={value}" for value in self.values)


@dataclass(frozen=True)
class Bisected:
    """A bisection as far as it came, its folder, and the runs of the comparison that decides."""

    bisection: Bisection
    folder: Path
    ended: Ended
    runs: tuple[Run, ...]


@dataclass
class _Progress:
    """What is known of the arms; the direction and the followed experiments come from the last one's comparison."""

    answers: dict[int, Answer] = field(default_factory=dict)
    runs: dict[int, tuple[Run, Run]] = field(default_factory=dict)
    direction: Direction | None = None
    followed: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    stopped: Answer | None = None
    elapsed_s: float = 0.0

    @property
    def kinds(self) -> dict[int, Kind]:
        return {arm: item.kind for arm, item in self.answers.items()}


def parse_arms(texts: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the key and the values of ``KEY=V1,V2,...``; of several texts with one key each is one value.

    Raises:
        UserError: the texts have no key or several, or there are too few or too many values.
    """
    pairs = [text.partition("=") for text in texts]
    keys = list(dict.fromkeys(key for key, _, _ in pairs))
    if not all(key and equals for key, equals, _ in pairs) or len(keys) != 1:
        raise UserError(
            f"invalid --over {' and '.join(map(repr, texts))}: expected KEY=V1,V2,..., or one KEY=VALUE an option with "
            "the same KEY"
        )
    values = tuple(pairs[0][2].split(",")) if len(pairs) == 1 else tuple(value for _, _, value in pairs)
    if not ARMS_MIN <= len(values) <= ARMS_MAX:
        raise UserError(
            f"--over {keys[0]} has {len(values)} value{'s' * (len(values) != 1)}; "
            f"expected {ARMS_MIN} to {ARMS_MAX:,}, from the good one to the bad one"
        )
    return keys[0], values


def bisect(spec: BisectSpec, measure: Measure, emit: Emit, clock: Callable[[], float] = time.monotonic) -> Bisected:
    """Find the first arm that is slower (or faster) than the first one, or resume where an earlier call stopped.

    ``measure`` compares two arms; their records go into ``spec.out``. With a budget each call has it anew.

    Raises:
        UserError: the first arm cannot run, or no verdict can come of the arms.
        EnvironmentProblem: the folder is not writable, or another process bisects the same arms there.
        RecordError: the journal to resume, or a run that it names, is damaged.
    """
    if not spec.key.startswith("env.") and spec.key not in ("image", PACKAGES, WHEELS):
        # Of an arm that is compared last, this would otherwise be known last.
        for setting in spec.settings:
            parse_settings([setting])
    with _open_journal(spec) as (journal, entries):
        return _Bisector(spec, measure, emit, clock, journal).run(entries)


class _Bisector:
    def __init__(
        self, spec: BisectSpec, measure: Measure, emit: Emit, clock: Callable[[], float], journal: Journal
    ) -> None:
        self._spec, self._measure, self._emit, self._clock, self._journal = spec, measure, emit, clock, journal
        self._progress = _Progress()
        self._started_s = self._noted_s = clock()

    def run(self, entries: Sequence[dict[str, Any]]) -> Bisected:
        """Compare arm after arm until the first bad one is known, or none can be."""
        for entry in entries:
            self._restore(entry)
        if self._progress.answers:
            self._emit(f"continuing {self._journal.path.parent} after {len(self._progress.answers)} arms")
        ended: Ended = "complete"
        while ended == "complete" and (arm := next_arm(self._progress.kinds, len(self._spec.values))) is not None:
            ended = self._compare(arm)
        self._note({"kind": "ended" if ended == "complete" else "stopped"})
        return self._conclude(ended)

    def _restore(self, entry: dict[str, Any]) -> None:
        self._progress.elapsed_s += entry.get("elapsed_s", 0.0)
        if entry["kind"] == "compared":
            first, other = (load_run(self._spec.out / name) for name in entry["runs"])
            self._take_up(entry["arm"], first, other)
        elif entry["kind"] == "cannot run":
            self._progress.answers[entry["arm"]] = Answer(kind="cannot run", reason=entry["reason"])

    def _compare(self, arm: int) -> Ended:
        """Compare an arm with the first one, and note the runs once they are complete."""
        budget_s = self._spec.request.budget_s
        if budget_s is not None:
            budget_s -= self._clock() - self._started_s
            if budget_s <= 0:
                return "paused"
        question = Question(
            replace(self._spec.request, budget_s=budget_s, only=self._followed_only or self._spec.request.only),
            self._spec.settings[FIRST],
            self._spec.settings[arm],
            arm + 1,
        )
        number = len(self._progress.answers) + 1
        most = max(number, count_at_most(self._spec.values))
        self._emit(
            f"comparison {number} of at most {most}: arm {arm + 1}, {hide_secret(question.other)}, against arm 1"
        )
        try:
            first, other = self._measure(question)
        except KeyboardInterrupt:
            return "interrupted"
        except ArmCannotRun as problem:
            if problem.arm == "a":
                raise UserError(f"the first arm, {question.first}, cannot run: {problem.reason}") from None
            self._progress.answers[arm] = Answer(kind="cannot run", reason=problem.reason)
            self._note({"kind": "cannot run", "arm": arm, "reason": problem.reason})
            return "complete"
        if first.record.ended != "complete":
            self._progress.stopped = self._judge(first, other)
            return first.record.ended
        self._note({"kind": "compared", "arm": arm, "runs": [first.folder.name, other.folder.name]})
        self._take_up(arm, first, other)
        return "complete"

    @property
    def _followed_only(self) -> tuple[str, ...]:
        """The followed experiments as ``--only`` has them; empty where the arms' options make other ids of them."""
        if self._progress.direction is None:
            return ()
        ids = [[result.planned.experiment_id for result in run.record.results] for run in self._last_runs]
        return self._progress.followed if ids[0] == ids[1] else ()

    @property
    def _last_runs(self) -> tuple[Run, Run]:
        return self._progress.runs[len(self._spec.values) - 1]

    def _take_up(self, arm: int, first: Run, other: Run) -> None:
        """Keep what a comparison shows."""
        progress = self._progress
        if arm == len(self._spec.values) - 1:
            comparison = compare_runs(first, other, self._spec.margin)
            progress.direction, progress.followed = choose_followed(comparison)
            progress.labels = _labels(comparison, progress.followed)
        progress.answers[arm] = self._judge(first, other)
        progress.runs[arm] = first, other

    def _judge(self, first: Run, other: Run) -> Answer:
        """What a comparison says of the followed experiments, of all where nothing is followed yet."""
        direction, comparison = self._progress.direction, compare_runs(first, other, self._spec.margin)
        followed = self._progress.followed or tuple(item.experiment_id for item in comparison.experiments)
        problem = _find_problem(first.record, other.record, followed)
        return answer(comparison, direction, followed, problem)

    def _note(self, entry: dict[str, Any]) -> None:
        """Write a line of the journal, with the time (s) since the last one."""
        now_s = self._clock()
        elapsed_s, self._noted_s = now_s - self._noted_s, now_s
        self._progress.elapsed_s += elapsed_s
        self._journal.append(entry | {"elapsed_s": elapsed_s, "utc": utc_now()})

    def _conclude(self, ended: Ended) -> Bisected:
        progress, spec = self._progress, self._spec
        kinds = progress.kinds
        good, bad = find_edges(kinds, len(spec.values))
        between = range(good + 1, len(spec.values) if bad is None else bad)
        result: Result = "found" if bad is not None and not between else "unresolved"
        last = progress.answers.get(len(spec.values) - 1)
        if last is not None and last.kind == "good":
            result, between = "nothing", range(0)
        ends = progress.answers.get(good), progress.answers.get(bad if bad is not None else -1)
        judgements = [end.judgement if end else None for end in ends]
        found = result == "found" and bad is not None
        records = [self._record_of(arm) for arm in (good, bad)] if found and bad is not None else []
        differences, attribution = _describe_differences(records)
        deciding = progress.runs.get(bad if bad is not None else len(spec.values) - 1, ())
        bisection = Bisection(
            key=spec.key,
            margin=spec.margin,
            result=result,
            direction=progress.direction,
            experiments=progress.labels if progress.direction else (),
            arms=tuple(self._describe_arm(arm) for arm in range(len(spec.values))),
            last_good=good + 1,
            first_bad=None if bad is None else bad + 1,
            candidates=() if bad is None or result == "nothing" else tuple(arm + 1 for arm in (*between, bad)),
            step=measure_step(judgements[0], judgements[1]) if found else None,
            is_only_a_part=found and is_only_a_part(judgements[1], last.judgement if last else None),
            reason=_explain(ended, last, progress.stopped),
            comparison_count=len(progress.runs),
            elapsed_s=progress.elapsed_s,
            differences=differences,
            attribution=attribution,
            commands=tuple(
                self._command(arm)
                for arm in sorted({good, bad if bad is not None else len(spec.values) - 1} & set(progress.runs))
            ),
        )
        return Bisected(bisection, self._journal.path.parent, ended, deciding)

    def _command(self, arm: int) -> str:
        """What repeats a comparison; records of images name no arms."""
        first, other = (run.record for run in self._progress.runs[arm])
        if first.session is not None:
            return make_command(first, [other])
        words = ["sdbench", "ab", str(self._spec.request.manifest), *request_arguments(self._spec.request)]
        arms = (("--a", self._spec.settings[FIRST]), ("--b", self._spec.settings[arm]))
        return shlex.join([*words, *(word for pair in arms for word in pair)])

    def _record_of(self, arm: int) -> Record:
        """The record of an arm's own run; the first one's is next to any other."""
        if arm == FIRST:
            return self._last_runs[0].record
        return self._progress.runs[arm][1].record

    def _describe_arm(self, arm: int) -> ComparedArm:
        known = self._progress.answers.get(arm)
        runs = self._progress.runs.get(arm, ())
        unknown: Literal["first", "not compared"] = "first" if arm == FIRST else "not compared"
        return ComparedArm(
            number=arm + 1,
            setting=Redactor().redact(hide_secret(self._spec.settings[arm])),
            state=known.kind if known else unknown,
            label=known.label if known else "",
            judgement=known.judgement if known else None,
            reason=known.reason if known else "",
            runs=tuple(run.folder.name for run in runs),
        )


def _labels(comparison: Comparison, followed: Sequence[str]) -> tuple[str, ...]:
    return tuple(item.label for item in comparison.experiments if item.experiment_id in followed)


def _find_problem(first: Record, other: Record, followed: Sequence[str]) -> str:
    """Why an arm gave no result in a followed experiment; empty where it gave one in all."""
    for before, result in zip(first.results, other.results, strict=True):
        if before.planned.experiment_id not in followed:
            continue
        if not isinstance(before.outcome, Succeeded) and before.outcome.kind != "skipped":
            return f"the first arm {describe_end(before.outcome)}"
        if not isinstance(result.outcome, Succeeded):
            return describe_end(result.outcome)
    return ""


def _explain(ended: Ended, last: Answer | None, stopped: Answer | None) -> str:
    """Why there is no answer yet: it was stopped, or the two ends do not differ clearly."""
    if ended != "complete":
        why = f": {stopped.reason}" if stopped is not None and stopped.reason else ""
        return ("the budget ended" if ended == "paused" else "interrupted") + why
    return last.reason if last is not None and last.kind in ("unclear", "cannot run") else ""


def _describe_differences(records: Sequence[Record]) -> tuple[tuple[Any, ...], str]:
    """What differs between the last good and the first bad arm, and what that can be attributed to."""
    if not records:
        return (), ""
    good, bad = records
    diff = compare_fingerprints(good.fingerprint, bad.fingerprint)
    return (*compare_libraries([good], [bad]), *diff.differences), diff.attribution


@contextmanager
def _open_journal(spec: BisectSpec) -> Iterator[tuple[Journal, tuple[dict[str, Any], ...]]]:
    """Open the journal of an unfinished bisection of the same arms and request, or a new one."""
    check_output_folder(spec.out)
    loaded = load_manifest(find_manifest(spec.request.manifest))
    request = {
        "manifest_sha256": loaded.sha256,
        "only": list(spec.request.only),
        "settings": spec.request.assignments,
        "device": spec.request.device,
        "arms": [sha256_of(setting) for setting in spec.settings],
        "margin": spec.margin,
        "machine": spec.machine,
    }
    key = sha256_of(request)
    refusal = f"another process bisects the same arms in {spec.out}; wait for it, or stop it"
    with hold_file(spec.out / f".bisect-{key[:16]}.lock", refusal=refusal):
        folder, entries = (None, ()) if spec.fresh else _find_unfinished(spec.out, key)
        if folder is None:
            slug = re.sub(r"[^A-Za-z0-9._-]", "-", spec.key)
            folder = spec.out / f"bisect-{slug}-{utc_now('%Y%m%dT%H%M%S%fZ')}"
            make_folder(folder)
        with Journal(folder / BISECTION_JOURNAL_NAME) as journal:
            if not entries:
                journal.append({"kind": "start", "key": key, "utc": utc_now()})
            yield journal, entries


def _find_unfinished(out: Path, key: str) -> tuple[Path | None, tuple[dict[str, Any], ...]]:
    """The folder of the newest unfinished bisection of this key and its journal."""
    for path in sorted(out.glob(f"bisect-*/{BISECTION_JOURNAL_NAME}"), reverse=True):
        entries, _ = read_journal(path)
        if entries and entries[0].get("key") == key and entries[-1]["kind"] != "ended":
            return path.parent, cut_torn_tail(path)
    return None, ()
