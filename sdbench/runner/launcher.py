"""Starts workers: from the template of a round where that is safe, else whole."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sdbench.runner.template import Template, TemplateDied
from sdbench.runner.worker_process import SpawnedWorker, Start, WorkerProcess
from sdbench.schema.outcome import warn
from sdbench.schema.warning_codes import WarningCode


class Commands(NamedTuple):
    """The commands that start a worker, and a template."""

    worker: Sequence[str]
    template: Sequence[str]


class Launcher:
    """Starts workers: forked from the template of the round where that is asked for and safe, else spawned.

    At most one template lives, since two would share the memory. ``start_round`` ends one that has forked launches, so
    that two of one experiment never have the same, in which memory layout and hash seed are drawn once.
    """

    def __init__(self, note_worker: Callable[[int], object]) -> None:
        """``note_worker`` gets the process id of each worker."""
        self._note_worker = note_worker
        self._template: Template | None = None
        self._key: tuple[Commands, str, Mapping[str, str]] | None = None
        self._has_forked_launch = False
        self._unsafe: dict[str, str] = {}

    def start_round(self) -> None:
        """Let the next launch have a template that has forked none."""
        if self._has_forked_launch:
            self.close()

    def close(self) -> None:
        """End the template that lives."""
        ended, self._template, self._key, self._has_forked_launch = self._template, None, None, False
        if ended is not None:
            ended.close()

    def spawn(self, commands: Commands, environment: Mapping[str, str], start: Start) -> WorkerProcess:
        """Return a spawned worker."""
        worker = SpawnedWorker(commands.worker, environment, start)
        self._note_worker(worker.pid)
        return worker

    def fork(
        self,
        commands: Commands,
        backend: str,
        environment: Mapping[str, str],
        deadline_s: float,
        on_tick: Callable[[], None],
        *,
        measures_launch: bool = True,
    ) -> WorkerProcess:
        """Return a worker forked from the template for this backend and environment; spawned where forking is unsafe.

        Raises:
            TemplateDied: the template died or hung before it had forked.
            EnvironmentProblem: a library of the backend cannot be imported.
        """
        if backend not in self._unsafe:
            key, started_s = (commands, backend, environment), time.monotonic()
            if self._template is None or self._template.return_code is not None or self._key != key:
                self.close()
                self._template = Template(commands.template, backend, environment, deadline_s, on_tick)
                self._key = key
            template_s = time.monotonic() - started_s
            if self._template.unsafe is None:
                try:
                    worker = self._template.fork(deadline_s, template_s)
                except TemplateDied:
                    self.close()
                    raise
                self._has_forked_launch |= measures_launch
                self._note_worker(worker.pid)
                return worker
            self.distrust(backend, self._template.unsafe)
        message = f"spawned instead of forked: {self._unsafe[backend]}"
        return self.spawn(commands, environment, Start("spawn", warnings=(warn(WarningCode.NOT_FORKED, message),)))

    def distrust(self, backend: str, reason: str) -> None:
        """Spawn the workers of a backend from now on, for a reason that their launches report."""
        self._unsafe[backend] = reason
        self.close()
