"""One run from plan to sealed record: launches in rounds, each journaled before the next starts."""

from dataclasses import dataclass
from pathlib import Path

from sdbench.probes.devices import Device
from sdbench.runner.active import ActiveRun, RunSpec, fingerprint_of
from sdbench.runner.events import Listener, RunEvent
from sdbench.runner.folder import open_run_folder
from sdbench.runner.interrupts import interrupts_held
from sdbench.runner.schedule import choose_next
from sdbench.schema.record import Record
from sdbench.store.lock import hold_device


@dataclass(frozen=True)
class RunResult:
    """The bundle's folder and its sealed record."""

    folder: Path
    record: Record


def run(spec: RunSpec, listener: Listener) -> RunResult:
    """Run what is planned, or continue where an earlier run of the same stopped; return the sealed record.

    An interrupt (KeyboardInterrupt) ends the run early: what is finished is sealed, marked as interrupted.

    Raises:
        EnvironmentProblem: the disk is full or the folder not writable; what was finished before is kept.
        RecordError: the journal to continue is damaged.
    """
    with hold_device(spec.device.lock_key, lambda who: listener(RunEvent("waiting", waiting(spec.device, who)))):
        fingerprint = fingerprint_of(spec)
        with open_run_folder(spec, fingerprint) as folder:
            active = ActiveRun(spec, listener, fingerprint, folder)
            ended = "complete"
            try:
                ended = _take_rounds(active)
            except KeyboardInterrupt:
                ended = "interrupted"
            with interrupts_held():
                record = active.seal(ended)
            return RunResult(folder.path, record)


def _take_rounds(active: ActiveRun) -> str:
    """Launch until every experiment has ended, or those that had their rounds wait; return which."""
    spec = active.spec
    while (chosen := choose_next(active.progress, active.elapsed_s, spec.budget_s)) is not None:
        if spec.rounds is not None and chosen.next_index >= chosen.restored_count + spec.rounds:
            return "paused"
        active.launch(chosen)
    return "complete"


def waiting(device: Device, who: str) -> str:
    """Return what to tell the user while another run holds the device."""
    return f"device {device.torch_name} is held by {who}; waiting for it to finish"
