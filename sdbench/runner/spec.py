"""What a run is to do: the plan, and where and how it is carried out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sdbench.plan.make_plan import Plan
from sdbench.probes.fingerprint import collect_fingerprint
from sdbench.probes.other_python import read_software_of
from sdbench.probes.virtual import pretend, read_virtual_machine
from sdbench.runner.environments import PythonEnvironment
from sdbench.runner.launcher import Commands
from sdbench.runner.template import TEMPLATE_COMMAND
from sdbench.runner.worker_process import WORKER_COMMAND
from sdbench.schema.fingerprint import Fingerprint, seal_fingerprint
from sdbench.schema.record import DeviceGroup, Session
from sdbench.store.cache_folder import cache_folder


@dataclass(frozen=True)
class RunSpec:
    """A plan, the folder that its run folder goes into, and how it is carried out.

    ``fresh`` starts over instead of resuming an unfinished run; ``rounds`` stops after so many more launches of each
    experiment. ``environment`` is set for the workers in addition to the process's own; ``session`` marks one of two
    interleaved arms, ``device_group`` one of several devices measured together. ``key`` marks the run folder for
    finding it again, by default what it measures and where; ``resumes`` is a folder that was found. ``python`` is the
    environment that the workers run in, if not this process's.
    """

    plan: Plan
    out: Path
    fresh: bool = False
    rounds: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    session: Session | None = None
    device_group: DeviceGroup | None = None
    key: str | None = None
    resumes: Path | None = None
    python: PythonEnvironment | None = None
    cache_folder: Path = field(default_factory=cache_folder)
    worker_command: Sequence[str] = WORKER_COMMAND
    template_command: Sequence[str] = TEMPLATE_COMMAND

    @property
    def commands(self) -> Commands:
        """What starts its workers and their templates."""
        return Commands(self.worker_command, self.template_command)

    @property
    def is_virtual(self) -> bool:
        """Whether the run is on the virtual backend; a plan never mixes it with real ones."""
        return any(item.experiment.backend == "virtual" for item in self.plan.planned)


def read_fingerprint(spec: RunSpec) -> Fingerprint:
    """Return this machine's fingerprint for a run, with the driver that a virtual machine claims to have."""
    environ = os.environ | spec.environment
    fingerprint = collect_fingerprint(spec.plan.device, environ=environ)
    if spec.python is not None:
        software = read_software_of(spec.python.executable, environ, spec.python.names)
        fingerprint = seal_fingerprint(fingerprint.hardware, fingerprint.configuration, software, fingerprint.state)
    return pretend(fingerprint, read_virtual_machine(environ)) if spec.is_virtual else fingerprint
