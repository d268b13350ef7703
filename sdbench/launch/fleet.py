"""A fleet: one manifest on one machine of each kind, and all records in one place.

What was done is journaled before it is acted upon, so a driver that was killed goes on where it was. A machine that is
lost is replaced by another of its kind, on which the run starts anew: samples of two machines are never one run.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.launch.member import Member, Progress, Runs
from sdbench.plan.manifest_file import LoadedManifest, nearest
from sdbench.schema.base import sha256_of
from sdbench.store.archive import check_files
from sdbench.store.bundle import load_record, parse_record
from sdbench.store.files import write_whole_folder
from sdbench.store.journal import Journal, cut_torn_tail, read_journal
from sdbench.store.lock import try_file
from sdbench.store.names import FLEET_JOURNAL_NAME, RECORD_NAME

# A machine whose worker dies while the machine lives gets a second chance there, and no third.
_ATTEMPTS_A_NODE = 2

State = Literal["waiting", "running", "done", "failed", "lost"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Lost:
    """An attempt that ended without an answer; ``node_is_gone`` says whether its machine is lost too."""

    why: str
    node_is_gone: bool


Event = Progress | Runs | Lost


class FleetEngine(Protocol):
    """Where machines come from: Ray, Slurm, or a stand-in of the tests."""

    def nodes(self) -> Mapping[str, Sequence[str]]:
        """Return the machines that are there now, by kind."""

    def start(self, member: Member, node: str) -> None:
        """Begin to measure on a machine, which belongs to nothing else meanwhile."""

    def events(self) -> Iterator[tuple[str, Event]]:
        """Yield what happened since the last call, by kind; wait a moment if nothing did."""

    def clear(self, member: Member, node: str) -> None:
        """Remove what a machine kept of a member whose runs are collected; if it cannot, nothing depends on it."""


@dataclass(frozen=True)
class FleetSpec:
    """What to measure and where the records go; no ``kinds`` are all kinds there are.

    ``fresh`` begins anew although a fleet of the same command did not end.
    """

    loaded: LoadedManifest
    manifest_name: str
    kinds: tuple[str, ...]
    image: str | None
    arguments: tuple[str, ...]
    out: Path
    engine_name: str
    fresh: bool = False


@dataclass
class MemberState:
    """How far one kind of machine is."""

    member: Member
    state: State = "waiting"
    node: str | None = None
    losses: Counter[str] = field(default_factory=Counter)
    gone: set[str] = field(default_factory=set)
    folders: tuple[str, ...] = ()
    exit_code: int = 0
    why: str = ""


@dataclass(frozen=True)
class FleetEnd:
    """How each kind ended, and the folders of all records."""

    fleet_id: str
    members: tuple[MemberState, ...]
    folders: tuple[Path, ...]


def run_fleet(spec: FleetSpec, engine: FleetEngine, say: Say) -> FleetEnd:
    """Measure on one machine of each kind, or go on where a driver was killed, and return how each kind ended.

    Raises:
        UserError: no machine of a kind that is asked for, or no machine at all.
        EnvironmentProblem: another driver has this fleet, or ``out`` is not writable.
    """
    if not spec.out.exists():
        # Refused before anything is written.
        _choose_kinds(spec, engine.nodes())
    _make_folder(spec.out)
    with try_file(spec.out / f".fleet-{_key(spec)[:16]}.lock") as held:
        if not held:
            raise EnvironmentProblem(f"another driver has this fleet in {spec.out}; wait for it, or stop it")
        folder, entries = (None, ()) if spec.fresh else _find_open(spec, say)
        kinds = tuple(entries[0]["kinds"]) if entries else _choose_kinds(spec, engine.nodes())
        if folder is None:
            folder = _new_folder(spec)
        with Journal(folder / FLEET_JOURNAL_NAME) as journal:
            driver = _Driver(spec, engine, journal, say)
            if not entries:
                journal.append(_first_entry(spec, folder.name, kinds))
            driver.restore(folder.name, kinds, entries)
            driver.run()
            # A kind that was lost or failed is tried again by the same command; the others are not.
            whole = all(state.state == "done" for state in driver.states.values())
            journal.append({"kind": "end" if whole else "stop", "utc": _now()})
    return FleetEnd(
        folder.name,
        tuple(driver.states.values()),
        tuple(spec.out / name for state in driver.states.values() for name in state.folders),
    )


class _Driver:
    """Starts, restarts and collects until every kind has ended."""

    def __init__(self, spec: FleetSpec, engine: FleetEngine, journal: Journal, say: Say) -> None:
        self.spec, self.engine, self.journal, self.say = spec, engine, journal, say
        self.states: dict[str, MemberState] = {}

    def restore(self, fleet_id: str, kinds: Sequence[str], entries: Sequence[dict[str, Any]]) -> None:
        """Set every kind to where the journal left it; what was running is waiting again, for the same machine."""
        for kind in kinds:
            member = Member(
                fleet_id=fleet_id,
                kind=kind,
                manifest_name=self.spec.manifest_name,
                manifest_text=self.spec.loaded.text,
                arguments=self.spec.arguments,
                image=self.spec.image,
            )
            self.states[kind] = MemberState(member)
        for entry in entries:
            if entry["kind"] == "stop":
                for state in self.states.values():
                    state.losses.clear()
                    state.gone.clear()
            elif entry.get("member") in self.states:
                self._restore_entry(self.states[entry["member"]], entry)
        for state in self.states.values():
            if state.state == "done":
                self.say(f"{state.member.kind}: done before")
            elif state.folders and all((self.spec.out / name / RECORD_NAME).is_file() for name in state.folders):
                # The driver was killed between keeping the runs and saying so.
                self._done(state)

    @staticmethod
    def _restore_entry(state: MemberState, entry: Mapping[str, Any]) -> None:
        state.node = entry["node"]
        match entry["kind"]:
            case "collecting" | "done":
                state.folders, state.exit_code = tuple(entry["folders"]), entry["exit_code"]
                state.state = "done" if entry["kind"] == "done" else "waiting"
            case "lost attempt":
                state.folders = ()
                _count_loss(state, node_is_gone=entry["node_is_gone"])
            case "failed":
                state.why = entry["why"]

    def run(self) -> None:
        """Go on until nothing waits or runs."""
        self._start_waiting()
        while any(state.state == "running" for state in self.states.values()):
            for kind, event in self.engine.events():
                self._take(self.states[kind], event)
            self._start_waiting()

    def _start_waiting(self) -> None:
        waiting = [state for state in self.states.values() if state.state == "waiting"]
        nodes = self.engine.nodes() if waiting else {}
        for state in waiting:
            node = _choose_node(state, nodes.get(state.member.kind, ()))
            if node is None:
                state.state = "lost"
                state.why = state.why or "no machine of this kind is left"
                self._write("lost", state, why=state.why)
                self.say(f"{state.member.kind}: lost: {state.why}")
                continue
            state.node, state.state = node, "running"
            self._write("start", state)
            self.say(f"{state.member.kind}: starts on {node[:12]}")
            self.engine.start(state.member, node)

    def _take(self, state: MemberState, event: Event) -> None:
        match event:
            case Progress():
                self.say(f"{state.member.kind}: {event.text}")
            case Lost():
                state.state, state.why, state.folders = "waiting", event.why, ()
                _count_loss(state, node_is_gone=event.node_is_gone)
                self._write("lost attempt", state, why=event.why, node_is_gone=event.node_is_gone)
                self.say(f"{state.member.kind}: {event.why}; starting anew")
            case Runs() if event.runs:
                try:
                    # All of them, before any is kept.
                    state.folders = tuple(_check_run(files, self.spec.out) for files in event.runs)
                except RecordError as problem:
                    self._take(state, Lost(f"a run arrived damaged ({problem})", node_is_gone=False))
                    return
                state.exit_code = event.exit_code
                self._write("collecting", state, folders=list(state.folders), exit_code=state.exit_code)
                for name, files in zip(state.folders, event.runs, strict=True):
                    if not (self.spec.out / name).exists():
                        write_whole_folder(self.spec.out / name, files)
                self._done(state)
                if state.node is not None:
                    self.engine.clear(state.member, state.node)
            case Runs() if event.exit_code < 0:
                self._take(state, Lost(f"its process was killed (signal {-event.exit_code})", node_is_gone=False))
            case Runs():
                state.state, state.exit_code = "failed", event.exit_code
                state.why = event.message.splitlines()[-1] if event.message else f"it ended with {event.exit_code}"
                self._write("failed", state, why=state.why)
                self.say(f"{state.member.kind}: failed: {state.why}")

    def _done(self, state: MemberState) -> None:
        state.state = "done"
        self._write("done", state, folders=list(state.folders), exit_code=state.exit_code)
        self.say(f"{state.member.kind}: done, {', '.join(state.folders)}")

    def _write(self, what: str, state: MemberState, **more: Any) -> None:
        self.journal.append({"kind": what, "member": state.member.kind, "node": state.node, "utc": _now(), **more})


def _check_run(files: Mapping[str, bytes], out: Path) -> str:
    """Check a run that came from a machine, and return the name of its folder, which is its id.

    Raises:
        RecordError: the run is damaged, or one of this id but other content is there.
    """
    record = parse_record(files.get(RECORD_NAME, b""), "the machine's record")
    check_files(record, files, record.run_id)
    folder = out / record.run_id
    if folder.exists() and load_record(folder).seal != record.seal:
        raise RecordError(f"{folder} has this run with other content; move it away")
    return folder.name


def _count_loss(state: MemberState, *, node_is_gone: bool) -> None:
    if state.node is not None:
        state.losses[state.node] += 1
        if node_is_gone:
            state.gone.add(state.node)


def _choose_kinds(spec: FleetSpec, nodes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if not nodes:
        raise UserError(f"--engine {spec.engine_name}: no machine is there to measure on; add nodes first")
    for kind in spec.kinds:
        if kind not in nodes:
            raise UserError(f"--kinds {kind!r}: no machine of this kind; {nearest(kind, nodes)}")
    return spec.kinds or tuple(sorted(nodes))


def _choose_node(state: MemberState, nodes: Sequence[str]) -> str | None:
    """The machine it was on, which can go on where it was, else another of its kind."""
    usable = [n for n in nodes if n not in state.gone and state.losses[n] < _ATTEMPTS_A_NODE]
    if state.node in usable:
        return state.node
    return usable[0] if usable else None


def _first_entry(spec: FleetSpec, fleet_id: str, kinds: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": "fleet",
        "key": _key(spec),
        "fleet_id": fleet_id,
        "utc": _now(),
        "kinds": list(kinds),
        "manifest": spec.manifest_name,
        "manifest_sha256": spec.loaded.sha256,
        "image": spec.image,
        "arguments": list(spec.arguments),
    }


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {folder}: {error.strerror}; check --out") from None


def _find_open(spec: FleetSpec, say: Say) -> tuple[Path | None, tuple[dict[str, Any], ...]]:
    """Return the folder of the fleet that did not end, with its journal; the caller has its lock."""
    for path in sorted(spec.out.glob(f"fleet-*/{FLEET_JOURNAL_NAME}")):
        try:
            entries, _ = read_journal(path)
        except RecordError as problem:
            say(f"sdbench: left alone: {problem}")
            continue
        if entries and entries[0].get("key") == _key(spec) and entries[-1]["kind"] != "end":
            return path.parent, cut_torn_tail(path)
    return None, ()


def _new_folder(spec: FleetSpec) -> Path:
    stem = re.sub(r"[^a-z0-9-]", "-", Path(spec.manifest_name).stem.lower())
    folder = spec.out / f"fleet-{stem}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%f')}Z"
    _make_folder(folder)
    return folder


def _key(spec: FleetSpec) -> str:
    """What makes two fleets the same, so that one goes on with the other: what was asked for, not what is there."""
    return sha256_of(
        [spec.engine_name, spec.manifest_name, spec.loaded.sha256, list(spec.kinds), spec.image, list(spec.arguments)]
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
