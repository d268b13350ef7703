"""Bisection of an ordered list of arms: each comparison is a session of ``ab``, and a journal has those that were made.

The journal names the runs, and what they show is read from them again: a bisection that is resumed decides as one that
was not interrupted.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbench.compare.bisection import FIRST, ArmAnswer, answer, choose_followed, count_at_most, next_arm
from sdbench.compare.comparison import compare_runs
from sdbench.errors import UserError
from sdbench.plan.expand import parse_settings
from sdbench.plan.manifest_file import load_manifest
from sdbench.plan.shipped import find_manifest
from sdbench.runner.ab import ArmCannotRun, hide_secret
from sdbench.runner.bisect_end import conclude, find_problem
from sdbench.runner.bisect_spec import Bisected, BisectSpec, KnownArms, Measure, Question
from sdbench.runner.environments import PACKAGES, WHEELS
from sdbench.runner.folder import check_output_folder, utc_now
from sdbench.runner.state import Ended
from sdbench.schema.base import sha256_of
from sdbench.store.files import make_folder
from sdbench.store.journal import Journal, cut_torn_tail, read_journal
from sdbench.store.layout import BISECTION_JOURNAL_NAME
from sdbench.store.lock import hold_file
from sdbench.store.run import Run, load_run

Emit = Callable[[str], None]


def bisect(spec: BisectSpec, measure: Measure, emit: Emit, clock: Callable[[], float] = time.monotonic) -> Bisected:
    """Find the first arm that is slower (or faster) than the first one, or resume where an earlier call stopped.

    ``measure`` compares two arms; their records go into ``spec.out``. A budget is of one call.

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
        self._progress = KnownArms()
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
        return conclude(self._spec, self._progress, self._journal.path.parent, ended)

    def _restore(self, entry: dict[str, Any]) -> None:
        self._progress.elapsed_s += entry.get("elapsed_s", 0.0)
        if entry["kind"] == "compared":
            first, other = (load_run(self._spec.out / name) for name in entry["runs"])
            self._take_up(entry["arm"], first, other)
        elif entry["kind"] == "cannot run":
            self._progress.answers[entry["arm"]] = ArmAnswer(kind="cannot run", reason=entry["reason"])

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
                raise UserError(f"the first arm, {hide_secret(question.first)}, cannot run: {problem.reason}") from None
            self._progress.answers[arm] = ArmAnswer(kind="cannot run", reason=problem.reason)
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
            progress.labels = tuple(
                item.label for item in comparison.experiments if item.experiment_id in progress.followed
            )
        progress.answers[arm] = self._judge(first, other)
        progress.runs[arm] = first, other

    def _judge(self, first: Run, other: Run) -> ArmAnswer:
        """What a comparison says of the followed experiments, of all where nothing is followed yet."""
        direction, comparison = self._progress.direction, compare_runs(first, other, self._spec.margin)
        followed = self._progress.followed or tuple(item.experiment_id for item in comparison.experiments)
        problem = find_problem(first.record, other.record, followed)
        return answer(comparison, direction, followed, problem)

    def _note(self, entry: dict[str, Any]) -> None:
        """Write a line of the journal, with the time (s) since the last one."""
        now_s = self._clock()
        elapsed_s, self._noted_s = now_s - self._noted_s, now_s
        self._progress.elapsed_s += elapsed_s
        self._journal.append(entry | {"elapsed_s": elapsed_s, "utc": utc_now()})


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
