"""The schedule of one host: its images interleaved, so that drift affects all of them, and the records collected."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from sdbench import exit_codes
from sdbench.compare.policy import draw_image_order
from sdbench.containers.engine import JOB_LABEL, SCHEDULE_LABEL, Emit, Engine, LostConnection, engine_errors
from sdbench.containers.engine_errors import docker_problems
from sdbench.containers.jobs import (
    OFFLINE,
    RESULTS,
    Finished,
    Job,
    collect,
    create_container,
    finish_container,
    has_ended,
    read_job,
)
from sdbench.errors import EnvironmentProblem

_TOKEN = "HF_TOKEN"  # noqa: S105 - a variable's name


@dataclass
class HostRun:
    """The jobs of one host and their outcome; ``several`` are distinguished in progress lines and folder names.

    With ``resumes`` they are those of an earlier schedule. ``container`` is the current one, or what that one left.
    """

    engine: Engine
    jobs: list[Job]
    manifest: bytes
    out: Path
    emit: Emit
    several: bool
    container: Any = None
    resumes: bool = False
    folders: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    is_stopped: bool = False
    is_lost: bool = False

    def run(self) -> None:
        """Run the jobs, interleaved (ABBA or BAAB), until each has ended; collect the runs of each."""
        with self._problems_noted():
            if self.resumes:
                self._finish_earlier()
            self._interleave()
        if not self.is_lost:
            for job in self.jobs:
                self._collect(job)

    def stop(self) -> None:
        """Ask the current container to seal its record with the launches so far; start no other."""
        self.is_stopped = True
        if self.container is not None:
            # It has ended by itself, or the engine is gone, and then the thread that follows it reports so.
            with suppress(Exception):
                self.container.kill(signal="SIGTERM")

    def _finish_earlier(self) -> None:
        """Follow the container of the earlier schedule to its end, and collect the runs that have ended."""
        if (container := self.container) is not None:
            if container.status != "created" and container.attrs["Config"]["Cmd"][0] == "run":
                job = next(job for job in self.jobs if job == read_job(container.labels))
                self._note_end(job, finish_container(self.engine, container, partial(self._report, job)))
            else:
                # It fetched weights, or never started: the next one does it again.
                self.engine.remove(container)
        for job in [job for job in self.jobs if has_ended(self.engine, job)]:
            self.jobs.remove(job)
            self._collect(job)

    def _interleave(self) -> None:
        for job in self.jobs:
            labels = {SCHEDULE_LABEL: job.schedule_id, JOB_LABEL: job.model_dump_json()}
            self.engine.client.volumes.create(job.volume, labels=labels)
        for job in self.jobs:
            if not self.is_stopped:
                self._fetch_weights(job)
        waiting = list(self.jobs)
        directions = _draw_directions(waiting[0].schedule_id) if waiting else iter(())
        while waiting and not self.is_stopped:
            paused = []
            for job in waiting[:: next(directions)]:
                if self.is_stopped:
                    break
                rounds = [f"--rounds={job.rounds}"] if job.rounds else []
                finished = self._run_container(job, ["run", "--out", "results", "--json", *rounds], OFFLINE)
                self._note_end(job, finished)
                if finished.end == "paused":
                    paused.append(job)
            waiting = [job for job in waiting if job in paused]

    def _fetch_weights(self, job: Job) -> None:
        """Download pinned weights that are missing: the only step with a network, and with the token."""
        if self._run_container(job, ["fetch", "--check"], OFFLINE, is_quiet=True).exit_code != exit_codes.CHECK_FAILED:
            return
        self._report(job, "fetching weights")
        token = _TOKEN if os.environ.get(_TOKEN) else ""
        finished = self._run_container(job, ["fetch"], {"NETWORK": "bridge", "OFFLINE": "0", "TOKEN_NAME": token})
        if finished.exit_code:
            raise EnvironmentProblem(f"{self.engine.name}: the weights cannot be fetched: {finished.message}")

    def _run_container(
        self, job: Job, options: Sequence[str], values: dict[str, str], *, is_quiet: bool = False
    ) -> Finished:
        """Run a command of sdbench on the manifest in a container that is removed at its end."""
        command = [options[0], f"{RESULTS}/{job.manifest_name}", *options[1:], *job.arguments]
        container = create_container(self.engine, job, command, values, self.manifest)
        self._started(container)
        try:
            with docker_problems(f"{self.engine.name}: the container cannot start"):
                container.start()
        except EnvironmentProblem:
            # The engine keeps a container that never started.
            self.engine.remove(container)
            raise
        # Again: a stop between the two calls could not reach a container that did not run yet.
        self._started(container)
        return finish_container(self.engine, container, (lambda _: None) if is_quiet else partial(self._report, job))

    def _started(self, container: Any) -> None:
        self.container = container
        if self.is_stopped:
            self.stop()

    def _collect(self, job: Job) -> None:
        suffix = f"-{_slug(self.engine.host or '')}-{_slug(job.image)}".replace("--", "-") if self.several else ""
        with self._problems_noted():
            self.folders += collect(self.engine, job, self.out, suffix)

    def _note_end(self, job: Job, finished: Finished) -> None:
        if finished.end != "paused":
            # A run without a record has not succeeded, whatever it exited with.
            self.exit_codes.append(finished.exit_code or (exit_codes.ENVIRONMENT if finished.end == "failed" else 0))
        if finished.message:
            self.problems.append(f"{self.engine.name}, {job.image}: {finished.message}")

    @contextmanager
    def _problems_noted(self) -> Iterator[None]:
        """Note a problem in this block instead of raising it, because the other hosts continue."""
        try:
            yield
        except engine_errors() as error:
            problem = self.engine.as_problem(error)
            self.is_lost = self.is_lost or isinstance(problem, LostConnection)
            self.problems.append(str(problem))
            self.exit_codes.append(exit_codes.ENVIRONMENT)

    def _report(self, job: Job, text: str) -> None:
        self.emit(f"{self.engine.name} {job.image}: {text}" if self.several else text)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.removeprefix("ssh://")).strip("-.")[-60:]


def _draw_directions(schedule_id: str) -> Iterator[int]:
    """Yield 1 for each round that takes the jobs in their order and -1 for each that takes them in the reverse order.

    Two rounds are a block: drift in time affects the first and the last job equally. Which of the two comes first is
    drawn as in ``ab``, so that no periodic noise can keep in step (ADR 17).
    """
    random = Random(schedule_id)  # noqa: S311 - an order that anyone can repeat
    while True:
        for sign in draw_image_order(random):
            yield from (sign, -sign)
