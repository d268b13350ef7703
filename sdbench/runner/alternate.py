"""Two sides measured now, in turns: ABBA or BAAB in fresh processes, until every experiment is resolved."""

import secrets
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from sdbench.compare.evidence import read_latency_s
from sdbench.compare.units import Timed, pair_blocks, time_launches
from sdbench.compare.verdicts import BLOCKS_MAX, BLOCKS_MIN, decide, p_changed
from sdbench.probes.privacy import Redactor, is_secret_name
from sdbench.runner.active import ActiveRun, RunSpec, fingerprint_of
from sdbench.runner.events import Listener, RunEvent
from sdbench.runner.folder import open_run_folder
from sdbench.runner.interrupts import interrupts_held
from sdbench.runner.run import RunResult, waiting
from sdbench.runner.schedule import RERUNS_MAX, Progress
from sdbench.schema.base import Known
from sdbench.schema.outcome import Skipped, StopReason, counted_launches
from sdbench.schema.record import Session
from sdbench.stats.ratios import LogRatio, paired_ratio
from sdbench.store.lock import hold_device

_OTHER_SIDE = Skipped(reason="the other side did not run", remedy="see why in the other side's record")
_SIDES: tuple[Literal["a", "b"], Literal["a", "b"]] = ("a", "b")
# The sides' places in a block, ABBA and BAAB.
_ORDERS = ((0, 1, 1, 0), (1, 0, 0, 1))


@dataclass(frozen=True)
class AlternateSpec:
    """Two sides with as many experiments each, the margin to resolve them against, the seed of the order, the end.

    ``settings`` are what the sides set, as they were asked for.
    """

    sides: tuple[RunSpec, RunSpec]
    settings: tuple[tuple[str, ...], tuple[str, ...]]
    margin: float
    seed: int
    budget_s: float | None
    blocks_max: int = BLOCKS_MAX


@dataclass
class _Sides:
    """One experiment on both sides, and how many blocks it has had."""

    progress: tuple[Progress, Progress]
    block_count: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether no further block is to be taken."""
        return all(progress.ended is not None for progress in self.progress)


def alternate(spec: AlternateSpec, listener: Listener) -> tuple[RunResult, RunResult]:
    """Measure both sides block by block, look at each after every block from the seventh on, and return both records.

    A look resolves an experiment when its interval lies beyond the margin or within it, never when it is "significant":
    looking until that happens gives 29 % of false alarms. What is not resolved ends after ``blocks_max`` or the budget.

    Raises:
        EnvironmentProblem: the disk is full or the folder not writable; what was finished before is kept.
    """
    session_id = secrets.token_hex(8)
    device = spec.sides[0].device
    with hold_device(device.lock_key, lambda who: listener(RunEvent("waiting", waiting(device, who)))):
        specs = [
            replace(side, session=_session(session_id, name, spec.seed, settings), fresh=True)
            for side, name, settings in zip(spec.sides, _SIDES, spec.settings, strict=True)
        ]
        fingerprints = [fingerprint_of(side) for side in specs]
        with open_run_folder(specs[0], fingerprints[0]) as first, open_run_folder(specs[1], fingerprints[1]) as second:
            runs = (
                ActiveRun(specs[0], listener, fingerprints[0], first),
                ActiveRun(specs[1], listener, fingerprints[1], second),
            )
            ended = "complete"
            try:
                _Alternation(spec, runs).to_the_end()
            except KeyboardInterrupt:
                ended = "interrupted"
            with interrupts_held():
                records = [run.seal(ended) for run in runs]
            return RunResult(first.path, records[0]), RunResult(second.path, records[1])


class _Alternation:
    def __init__(self, spec: AlternateSpec, runs: tuple[ActiveRun, ActiveRun]) -> None:
        self._spec = spec
        self._runs = runs
        self._random = Random(spec.seed)  # noqa: S311 - an order that anyone can repeat
        self._turn = 0
        self._experiments = [_Sides(pair) for pair in zip(runs[0].progress, runs[1].progress, strict=True)]

    def to_the_end(self) -> None:
        """Take block after block, round after round over all experiments, until each is resolved or ended."""
        while open_ones := [item for item in self._experiments if not item.has_ended]:
            for item in open_ones:
                reason = self._reason_before(item)
                if reason is None:
                    self._take_block(item)
                    reason = self._reason_to_end(item)
                if reason is not None:
                    self._close(item, reason)

    def _reason_before(self, item: _Sides) -> StopReason | None:
        """Why an experiment gets no further block: a side that cannot run, or the budget."""
        if any(progress.ended is not None for progress in item.progress):
            return "interrupted"
        budget_s = self._spec.budget_s
        if budget_s is None or item.block_count == 0:
            return None
        block_s = sum(2 * progress.expected_launch_s for progress in item.progress)
        return "budget" if self._runs[0].elapsed_s + block_s >= budget_s else None

    def _take_block(self, item: _Sides) -> None:
        for index in self._random.choice(_ORDERS):
            if item.progress[index].ended is None:
                self._runs[index].launch(item.progress[index], turn=self._turn)
            self._turn += 1
        item.block_count += 1

    def _reason_to_end(self, item: _Sides) -> StopReason | None:
        if any(progress.ended is not None for progress in item.progress):
            return "interrupted"
        bottom, top = pair_blocks(*(_timed(progress) for progress in item.progress))
        if len(top) >= BLOCKS_MIN and self._is_resolved(paired_ratio(top, bottom)):
            return "precise enough"
        most = self._spec.blocks_max
        return "most allowed" if len(top) >= most or item.block_count >= most + RERUNS_MAX else None

    def _is_resolved(self, ratio: LogRatio | None) -> bool:
        """Whether a look ends an experiment: with p shared among all experiments, so that Holm's cannot undo it."""
        if ratio is None:
            return False
        p_value = min(1.0, p_changed(ratio, self._spec.margin, "block") * len(self._experiments))
        return decide(ratio, self._spec.margin, p_value) != "inconclusive"

    def _close(self, item: _Sides, reason: StopReason) -> None:
        for progress in item.progress:
            if progress.ended is None:
                progress.end_well_or_skip(reason, _OTHER_SIDE)


def _session(session_id: str, side: Literal["a", "b"], seed: int, settings: tuple[str, ...]) -> Session:
    redactor = Redactor()
    shown = tuple(redactor.redact(_hide_secret(setting)) for setting in settings)
    return Session(session_id=session_id, side=side, seed=seed, settings=Known[tuple[str, ...]](value=shown))


def _hide_secret(setting: str) -> str:
    name, _, value = setting.partition("=")
    return f"{name}=(secret)" if value and is_secret_name(name) else setting


def _timed(progress: Progress) -> tuple[Timed, ...]:
    return time_launches(counted_launches(progress.launches), read_latency_s)
