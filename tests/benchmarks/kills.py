"""What is left when a writer, a publisher or a fleet's driver is killed: nothing lost, twice or half."""

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sdbench.errors import RecordError
from sdbench.fleet.fleet import Event, FleetSpec, run_fleet
from sdbench.fleet.node_job import NodeJob, NodeResult, sealed_runs
from sdbench.plan.manifest_file import load_manifest
from sdbench.publish.archive import ARCHIVE_BYTES_MAX, ARCHIVE_ENDING, read_bundle
from sdbench.publish.destination import FolderDestination
from sdbench.publish.transfer import publish_runs
from sdbench.schema.record import BundledFile
from sdbench.store.bundle import encode_sealed, load_record, verify_files
from sdbench.store.journal import Journal, cut_torn_tail, read_journal
from sdbench.store.layout import FLEET_JOURNAL_NAME, RECORD_NAME
from tests.benchmarks.bars import Bar
from tests.records import make_launch
from tests.runs import make_run

TRIALS = 300
SEED = 7
_UNHARMED = 5
KINDS = ("A100", "H100", "T4")
Acknowledge = Callable[[str], None]
MANIFEST = "schema: sdbench/manifest/v1\ntitle: F\nexperiments:\n- {id: a, title: A, options: {pipeline: tiny-sd}}\n"


def measure_kills(trials: int = TRIALS) -> list[Bar]:
    """Return for writer, publisher and driver how many of ``trials`` kills in the middle left something wrong."""
    return [
        _figure("journal writer", trials, _try_writer),
        _figure("publisher", trials, _try_publisher),
        _figure("fleet driver", trials, _try_driver),
    ]


def _figure(name: str, trials: int, attempt: Callable[[Path, float], tuple[bool, list[str]]]) -> Bar:
    source = random.Random(SEED)
    wrong: list[str] = []
    cut_off = 0
    # How long it takes without a kill bounds when to kill.
    unharmed_s = []
    for _ in range(_UNHARMED):
        with tempfile.TemporaryDirectory() as folder:
            began_s = time.monotonic()
            attempt(Path(folder), 60.0)
            unharmed_s.append(time.monotonic() - began_s)
    whole_s = min(unharmed_s)
    # A kill that comes after the end is none.
    while cut_off < trials:
        with tempfile.TemporaryDirectory() as folder:
            was_cut_off, problems = attempt(Path(folder), source.uniform(0, whole_s))
            cut_off += was_cut_off
            wrong += problems
    measured = f"{len(wrong)} wrong of {cut_off} kills in the middle"
    return Bar(f"kill -9 of a {name}", measured, "0 wrong", not wrong)


def run_and_kill(work: Callable[[Acknowledge], None], after_s: float) -> tuple[bool, list[str]]:
    """Do work in a process that is killed after a time (s); return whether it was, and what was acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            work(lambda text: _write(writer, text))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    deadline_s = time.monotonic() + after_s
    ended = 0
    while time.monotonic() < deadline_s:
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.0005)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        return not ended, stream.read().decode().splitlines()


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, f"{text}\n".encode())


def _try_writer(folder: Path, after_s: float) -> tuple[bool, list[str]]:
    path = folder / "journal.jsonl"
    entry = {"kind": "launch", "launch": make_launch().to_json_dict()}

    def work(acknowledge: Acknowledge) -> None:
        with Journal(path) as journal:
            for number in range(100):
                journal.append(entry | {"number": number})
                acknowledge(str(number))

    cut_off, acknowledged = run_and_kill(work, after_s)
    if not path.exists():
        return cut_off, ["acknowledged without a file"] if acknowledged else []
    numbers = [item["number"] for item in cut_torn_tail(path)]
    wrong = [f"entry {number} is lost" for number in acknowledged if int(number) not in numbers]
    wrong += ["an entry is there twice, or not in order"] if numbers != list(range(len(numbers))) else []
    # What follows is appended to a valid file.
    with Journal(path) as journal:
        journal.append({"number": len(numbers)})
    entries, sound_bytes = read_journal(path)
    return cut_off, wrong + (["the file is torn"] if sound_bytes != path.stat().st_size or not entries else [])


_RUNS: dict[str, Path] = {}


def _runs() -> Path:
    """Three whole runs with their exports, made once."""
    if "runs" not in _RUNS:
        folder = Path(tempfile.mkdtemp(prefix="sdbench-kills-"))
        for kind in KINDS:
            make_run(folder / kind / f"run-{kind.lower()}")
        publish_runs(_paths(folder), FolderDestination(folder / "warm-up"), {})
        _RUNS["runs"] = folder
    return _RUNS["runs"]


def _paths(folder: Path) -> list[Path]:
    return [folder / kind / f"run-{kind.lower()}" for kind in KINDS]


def _bundles(destination: FolderDestination) -> list[str]:
    return [name for name in destination.list_sizes() if name.endswith(ARCHIVE_ENDING)]


def _try_publisher(folder: Path, after_s: float) -> tuple[bool, list[str]]:
    destination = FolderDestination(folder / "reference")
    runs = _paths(_runs())

    def work(acknowledge: Acknowledge) -> None:
        for run in runs:
            (sent,) = publish_runs([run], destination, {})
            acknowledge(sent.place)

    cut_off, acknowledged = run_and_kill(work, after_s)
    wrong = [f"{place} is lost" for place in acknowledged if not Path(place).is_file()]
    for name in _bundles(destination):
        try:
            read_bundle(destination.read(name, ARCHIVE_BYTES_MAX), name)
        except RecordError as error:
            wrong.append(f"{name} is half: {error}")
    publish_runs(runs, destination, {})
    if len(_bundles(destination)) != len(runs):
        wrong.append("a run is there twice, or not at all, after publishing again")
    return cut_off, wrong


class StandIn:
    """Machines that answer at once with a run of an id of its own, and remember on the disk how often each measured."""

    def __init__(self, folder: Path, kinds: Sequence[str] = KINDS) -> None:
        self.kinds = kinds
        self.counts = folder / "counts"
        self.counts.mkdir(exist_ok=True)
        self.waiting: deque[tuple[str, Event]] = deque()

    def nodes(self) -> Mapping[str, Sequence[str]]:
        return {kind: [f"node-{kind}"] for kind in self.kinds}

    def start(self, job: NodeJob, node: str) -> None:
        with (self.counts / job.kind).open("ab") as stream:
            stream.write(b"x")
        self.waiting.append((job.kind, node))
        self.waiting.append((job.kind, NodeResult(0, (_anew(job.kind, self.count(job.kind)),))))

    def events(self) -> Iterator[tuple[str, Event]]:
        yield self.waiting.popleft()

    def clear(self, job: NodeJob, node: str) -> None:
        """Nothing is kept."""

    def close(self) -> str:
        return ""

    def count(self, kind: str) -> int:
        path = self.counts / kind
        return path.stat().st_size if path.exists() else 0


def _anew(kind: str, number: int) -> dict[str, bytes]:
    """A run of a kind as another measurement would have it: under another id."""
    (files,) = sealed_runs(_runs() / kind)
    content = json.loads(files[RECORD_NAME])
    named = [BundledFile.model_validate(file) for file in content.pop("files")]
    _, encoded = encode_sealed(content | {"run_id": f"{content['run_id']}-{number}"}, named)
    return files | {RECORD_NAME: encoded}


def _try_driver(folder: Path, after_s: float) -> tuple[bool, list[str]]:
    manifest = folder / "fleet.yaml"
    manifest.write_text(MANIFEST)
    spec = FleetSpec(load_manifest(manifest), "fleet.yaml", (), None, (), folder / "out", "stand-in")
    _runs()

    def report_done(acknowledge: Acknowledge) -> Callable[[str], None]:
        return lambda text: acknowledge(text.partition(":")[0]) if ": done" in text else None

    def work(acknowledge: Acknowledge) -> None:
        run_fleet(spec, StandIn(folder), report_done(acknowledge))

    cut_off, acknowledged = run_and_kill(work, after_s)
    before = {kind: StandIn(folder).count(kind) for kind in acknowledged}
    # A fleet that had ended is not resumed: asking again is asking for a new one.
    if cut_off and not _has_ended(spec.out):
        # What was acknowledged needs no machine any more, and a new one concerns nobody.
        others = (*(kind for kind in KINDS if kind not in acknowledged), "L4")
        run_fleet(spec, StandIn(folder, others if _has_begun(spec.out) else KINDS), lambda _: None)
    wrong = [f"{kind} was measured again" for kind in acknowledged if StandIn(folder).count(kind) != before[kind]]
    # What starts with a dot is a draft that nobody takes for a run.
    names = sorted(path.parent.name for path in spec.out.glob("[!.]*/record.json"))
    if [name.rpartition("-")[0] for name in names] != sorted(f"run-{kind.lower()}" for kind in KINDS):
        wrong.append(f"runs: {names}")
    for name in names:
        verify_files(spec.out / name, load_record(spec.out / name))
    return cut_off, wrong


def _has_begun(out: Path) -> bool:
    return any(cut_torn_tail(path) for path in out.glob(f"*/{FLEET_JOURNAL_NAME}"))


def _has_ended(out: Path) -> bool:
    return any(
        cut_torn_tail(path)[-1:] and cut_torn_tail(path)[-1]["kind"] == "end"
        for path in out.glob(f"*/{FLEET_JOURNAL_NAME}")
    )


def remove_runs() -> None:
    """Remove the runs that the trials are made of."""
    if "runs" in _RUNS:
        shutil.rmtree(_RUNS.pop("runs"))
