"""A fleet: one manifest on one machine of each kind, and all records in one place.

Every decision is journaled before it takes effect, so a driver that was killed resumes where it was. A machine that is
lost is replaced by another of its kind, on which the run starts from scratch: a run has samples of one machine only.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from sdbench.errors import RecordError, UserError
from sdbench.fleet.node_job import NodeJob, NodeResult
from sdbench.plan.manifest_file import LoadedManifest, nearest
from sdbench.publish.archive import check_files
from sdbench.runner.folder import utc_now
from sdbench.schema.base import sha256_of
from sdbench.store.bundle import load_record, parse_record
from sdbench.store.files import make_folder, write_whole_folder
from sdbench.store.journal import Journal, cut_torn_tail, read_journal
from sdbench.store.layout import FLEET_JOURNAL_NAME, RECORD_NAME
from sdbench.store.lock import hold_file

# A machine whose worker dies while the machine lives gets a second attempt, and no third.
_ATTEMPTS_PER_NODE = 2

Emit = Callable[[str], None]
State = Literal["waiting", "running", "done", "failed", "lost"]


@dataclass(frozen=True)
class FleetSpec:
    """What to measure and where the records go; empty ``kinds`` are all kinds of the cluster.

    ``fresh`` starts over instead of resuming an unfinished fleet of the same request.
    """

    loaded: LoadedManifest
    manifest_name: str
    kinds: tuple[str, ...]
    image: str | None
    arguments: tuple[str, ...]
    out: Path
    engine_name: str
    fresh: bool = False


@dataclass(frozen=True)
class Lost:
    """An attempt that ended without a result; ``node_is_gone`` says whether its machine is lost too."""

    why: str
    node_is_gone: bool


# Progress as text, the runs, or a loss.
Event = str | NodeResult | Lost


class FleetEngine(Protocol):
    """Where machines come from: Ray, Slurm, or a stand-in in the tests."""

    def nodes(self) -> Mapping[str, Sequence[str]]:
        """Return the machines that are usable now, by kind."""

    def start(self, job: NodeJob, node: str) -> None:
        """Start to measure on a machine, which runs nothing else meanwhile."""

    def events(self) -> Iterator[tuple[str, Event]]:
        """Yield the events since the last call, by kind; wait a moment if there are none."""

    def clear(self, job: NodeJob, node: str) -> None:
        """Remove what a machine kept of a job whose runs are collected; nothing depends on it."""

    def close(self) -> str:
        """Disconnect; return how to stop what still runs, or an empty text."""


@dataclass
class KindState:
    """How far one kind of machine is."""

    job: NodeJob
    state: State = "waiting"
    node: str = ""
    losses: Counter[str] = field(default_factory=Counter)
    folders: tuple[str, ...] = ()
    exit_code: int = 0
    why: str = ""

    def lose(self, *, node_is_gone: bool) -> None:
        """Count a lost attempt on the current machine; one that is gone gets no other."""
        self.folders = ()
        self.losses[self.node] += _ATTEMPTS_PER_NODE if node_is_gone else 1


def run_fleet(spec: FleetSpec, engine: FleetEngine, emit: Emit) -> tuple[Path, tuple[KindState, ...]]:
    """Measure on one machine of each kind, or resume; return the folder and how each kind ended.

    Raises:
        UserError: a requested kind has no machine, or the cluster has none at all.
        EnvironmentProblem: another driver runs this fleet, or ``out`` is not writable.
    """
    if not spec.out.exists():
        # Refused before anything is written.
        _choose_kinds(spec, engine.nodes())
    make_folder(spec.out)
    # A fleet resumes one of the same request, whatever machines there are now.
    request = {
        "engine": spec.engine_name,
        "manifest": spec.manifest_name,
        "manifest_sha256": spec.loaded.sha256,
        "kinds": list(spec.kinds),
        "image": spec.image,
        "arguments": list(spec.arguments),
    }
    key = sha256_of(request)
    refusal = f"another driver runs this fleet in {spec.out}; wait for it, or stop it"
    with hold_file(spec.out / f".fleet-{key[:16]}.lock", refusal=refusal):
        folder, entries = (None, ()) if spec.fresh else _find_unfinished(spec.out, key, emit)
        kinds = entries[0]["kinds"] if entries else _choose_kinds(spec, engine.nodes())
        if folder is None:
            stem = re.sub(r"[^a-z0-9-]", "-", Path(spec.manifest_name).stem.lower())
            folder = spec.out / f"fleet-{stem}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%f')}Z"
            make_folder(folder)
        with Journal(folder / FLEET_JOURNAL_NAME) as journal:
            driver = _Driver(spec, engine, journal, emit)
            if not entries:
                first = {"kind": "fleet", "key": key, "fleet_id": folder.name, "utc": utc_now(), "kinds": list(kinds)}
                journal.append(request | first)
            driver.restore(folder.name, kinds, entries)
            driver.run()
            # The same command tries a kind that was lost or failed again, and no other.
            is_complete = all(state.state == "done" for state in driver.states.values())
            journal.append({"kind": "end" if is_complete else "stop", "utc": utc_now()})
    return folder, tuple(driver.states.values())


def _find_unfinished(out: Path, key: str, emit: Emit) -> tuple[Path | None, tuple[dict[str, Any], ...]]:
    """The folder of an unfinished fleet of this request and its journal; the caller holds the fleet's lock."""
    for path in sorted(out.glob(f"fleet-*/{FLEET_JOURNAL_NAME}")):
        try:
            entries, _ = read_journal(path)
        except RecordError as problem:
            emit(f"sdbench: skipped: {problem}")
            continue
        if entries and entries[0].get("key") == key and entries[-1]["kind"] != "end":
            return path.parent, cut_torn_tail(path)
    return None, ()


class _Driver:
    def __init__(self, spec: FleetSpec, engine: FleetEngine, journal: Journal, emit: Emit) -> None:
        self.spec, self.engine, self.journal, self.emit = spec, engine, journal, emit
        self.states: dict[str, KindState] = {}

    def restore(self, fleet_id: str, kinds: Sequence[str], entries: Sequence[dict[str, Any]]) -> None:
        """Set every kind to its state in the journal; what was running waits again, for the same machine."""
        for kind in kinds:
            job = NodeJob(
                fleet_id=fleet_id,
                kind=kind,
                manifest_name=self.spec.manifest_name,
                manifest_text=self.spec.loaded.text,
                arguments=self.spec.arguments,
                image=self.spec.image,
            )
            self.states[kind] = KindState(job)
        for entry in entries:
            if entry["kind"] == "stop":
                for state in self.states.values():
                    state.losses.clear()
            elif "job" in entry:
                state = self.states[entry["job"]]
                state.node, state.why = entry["node"], entry.get("why", state.why)
                if entry["kind"] == "lost attempt":
                    state.lose(node_is_gone=entry["node_is_gone"])
                elif "folders" in entry:
                    state.folders, state.exit_code = tuple(entry["folders"]), entry["exit_code"]
                    state.state = "done" if entry["kind"] == "done" else "waiting"
        for state in self.states.values():
            if state.state == "done":
                self.emit(f"{state.job.kind}: done before")
            elif state.folders and all((self.spec.out / name / RECORD_NAME).is_file() for name in state.folders):
                # The driver was killed after it kept the runs and before it journaled that.
                self._finish(state)

    def run(self) -> None:
        """Work until no kind waits or runs."""
        self._start_waiting()
        while any(state.state == "running" for state in self.states.values()):
            for kind, event in self.engine.events():
                self._take(self.states[kind], event)
            self._start_waiting()

    def _start_waiting(self) -> None:
        waiting = [state for state in self.states.values() if state.state == "waiting"]
        nodes = self.engine.nodes() if waiting else {}
        for state in waiting:
            usable = [node for node in nodes.get(state.job.kind, ()) if state.losses[node] < _ATTEMPTS_PER_NODE]
            if not usable:
                self._give_up(state, "lost", state.why or "no machine of this kind is left")
                continue
            # The machine of the last attempt can resume its run.
            node = state.node if state.node in usable else usable[0]
            state.node, state.state = node, "running"
            self._log("start", state, f"starting on {node[:12]}")
            self.engine.start(state.job, node)

    def _take(self, state: KindState, event: Event) -> None:
        match event:
            case str():
                self.emit(f"{state.job.kind}: {event}")
            case Lost():
                self._restart(state, event.why, node_is_gone=event.node_is_gone)
            case NodeResult() if event.runs:
                self._collect(state, event)
            case NodeResult() if event.exit_code < 0:
                self._restart(state, f"its process was killed (signal {-event.exit_code})", node_is_gone=False)
            case NodeResult():
                state.exit_code = event.exit_code
                why = event.message.splitlines()[-1] if event.message else f"exit code {event.exit_code}"
                self._give_up(state, "failed", why)

    def _restart(self, state: KindState, why: str, *, node_is_gone: bool) -> None:
        state.state, state.why = "waiting", why
        state.lose(node_is_gone=node_is_gone)
        self._log("lost attempt", state, f"{why}; starting again", why=why, node_is_gone=node_is_gone)

    def _give_up(self, state: KindState, outcome: Literal["failed", "lost"], why: str) -> None:
        state.state, state.why = outcome, why
        self._log(outcome, state, f"{outcome}: {why}", why=why)

    def _collect(self, state: KindState, result: NodeResult) -> None:
        try:
            # All of them, before any is kept.
            state.folders = tuple(_check_run(files, self.spec.out) for files in result.runs)
        except RecordError as problem:
            self._restart(state, f"a run arrived damaged ({problem})", node_is_gone=False)
            return
        state.exit_code = result.exit_code
        self._log("collecting", state, "collecting", folders=list(state.folders), exit_code=state.exit_code)
        for name, files in zip(state.folders, result.runs, strict=True):
            if not (self.spec.out / name).exists():
                write_whole_folder(self.spec.out / name, files)
        self._finish(state)
        self.engine.clear(state.job, state.node)

    def _finish(self, state: KindState) -> None:
        state.state = "done"
        text = f"done, {', '.join(state.folders)}"
        self._log("done", state, text, folders=list(state.folders), exit_code=state.exit_code)

    def _log(self, entry_kind: str, state: KindState, text: str, **more: Any) -> None:
        self.journal.append({"kind": entry_kind, "job": state.job.kind, "node": state.node, "utc": utc_now(), **more})
        self.emit(f"{state.job.kind}: {text}")


def _check_run(files: Mapping[str, bytes], out: Path) -> str:
    """Check a run from a machine, and return the name of its folder, which is its id."""
    record = parse_record(files.get(RECORD_NAME, b""), "the machine's record")
    check_files(record, files, record.run_id)
    folder = out / record.run_id
    if folder.exists() and load_record(folder).seal != record.seal:
        raise RecordError(f"{folder} has this run with other content; move it away")
    return folder.name


def _choose_kinds(spec: FleetSpec, nodes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if not nodes:
        raise UserError(f"--engine {spec.engine_name}: the cluster has no usable machine; add nodes first")
    for kind in spec.kinds:
        if kind not in nodes:
            raise UserError(f"--kinds {kind!r}: no machine of this kind; {nearest(kind, nodes)}")
    return spec.kinds or tuple(sorted(nodes))
