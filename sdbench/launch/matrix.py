"""All jobs of a launch: hosts side by side, the images of one host in turns, so that drift falls on none alone."""

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sdbench.errors import EnvironmentProblem, SdbenchError
from sdbench.launch.engine import JOB_LABEL, LAUNCH_LABEL, Engine, LostConnection, engine_errors
from sdbench.launch.jobs import (
    Finished,
    Job,
    collect,
    fetch_weights,
    finish_container,
    has_ended,
    manifest_of,
    read_job,
    read_job_label,
    run_container,
    slug,
)

EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130
_WAIT_S = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True)
class LaunchSpec:
    """What to launch: a manifest on images of hosts (None is this one), and where the records go.

    A ``launch_id`` that is given makes it the same launch as an earlier one of that id: what is left of that goes on.
    """

    manifest: Path
    images: tuple[str, ...]
    hosts: tuple[str | None, ...]
    arguments: tuple[str, ...]
    gpus: str
    cpus: str
    memory: str
    out: Path
    launch_id: str | None = None


@dataclass
class HostRun:
    """The jobs of one host, and what has come of them."""

    engine: Engine
    jobs: list[Job]
    manifest: bytes
    out: Path
    say: Say
    several: bool
    folders: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    running: Any = None
    stopped: bool = False

    def to_the_end(self) -> None:
        """Run the jobs in turns, forth and back, until each has ended; collect what each has left."""
        try:
            self._take_turns()
        except LostConnection as problem:
            self._note(problem)
            return
        except SdbenchError as problem:
            self._note(problem)
        except engine_errors() as error:
            self._note(self._lost(error))
            return
        self._collect_all()

    def continue_from(self, container: Any | None) -> None:
        """Follow the container that an earlier launch left, if any, then go on as that launch would have."""
        self.running = container
        try:
            if container is not None and container.status != "created" and container.attrs["Config"]["Cmd"][0] == "run":
                job = next(job for job in self.jobs if job == read_job(container))
                finished = finish_container(self.engine, container, partial(self._say, job))
                self._note_end(job, finished)
            elif container is not None:
                # It was to fetch weights, or never started: the next one does it again.
                self.engine.remove(container)
            ended = [job for job in self.jobs if has_ended(self.engine, job)]
            for job in ended:
                self.jobs.remove(job)
                self._collect(job)
        except SdbenchError as problem:
            self._note(problem)
            return
        except engine_errors() as error:
            self._note(self._lost(error))
            return
        self.to_the_end()

    def stop(self) -> None:
        """Ask what runs to seal what it has; nothing new is started."""
        self.stopped = True
        if self.running is not None:
            # It has ended by itself, or the engine is gone, and then the thread that follows it says so.
            with suppress(Exception):
                self.running.kill(signal="SIGTERM")

    def _take_turns(self) -> None:
        for job in self.jobs:
            self.engine.create_volume(job.volume, {LAUNCH_LABEL: job.launch_id, JOB_LABEL: job.label})
        for job in self.jobs:
            if not self.stopped:
                fetch_weights(self.engine, job, self.manifest, partial(self._say, job), self._started)
        waiting = list(self.jobs)
        while waiting and not self.stopped:
            paused = []
            for job in waiting:
                if self.stopped:
                    break
                finished = run_container(self.engine, job, self.manifest, partial(self._say, job), self._started)
                self._note_end(job, finished)
                if finished.end == "paused":
                    paused.append(job)
            # Forth and back: what drifts with time falls on the first and the last alike.
            waiting = paused[::-1]

    def _started(self, container: Any) -> None:
        self.running = container
        if self.stopped:
            self.stop()

    def _note_end(self, job: Job, finished: Finished) -> None:
        if finished.end != "paused":
            self.exit_codes.append(finished.exit_code)
        if finished.message:
            self.problems.append(f"{self.engine.name}, {job.image}: {finished.message}")

    def _collect_all(self) -> None:
        for job in self.jobs:
            self._collect(job)

    def _collect(self, job: Job) -> None:
        suffix = f"-{slug(self.engine.host or '')}-{slug(job.image)}".replace("--", "-") if self.several else ""
        try:
            self.folders += collect(self.engine, job, self.out, suffix)
        except SdbenchError as problem:
            self._note(problem)
        except engine_errors() as error:
            self._note(self._lost(error))

    def _lost(self, error: Exception) -> EnvironmentProblem:
        where = f" --host {self.engine.host}" if self.engine.host else ""
        return EnvironmentProblem(
            f"lost {self.engine.name} ({' '.join(str(error).split())[:100]}); what it holds stays there: "
            f"collect it with sdbench launch --attach{where}"
        )

    def _note(self, problem: SdbenchError) -> None:
        self.problems.append(str(problem))
        self.exit_codes.append(EXIT_ENVIRONMENT)

    def _say(self, job: Job, text: str) -> None:
        self.say(f"{self.engine.name} {job.image}: {text}" if self.several else text)


def prepare(spec: LaunchSpec, say: Say) -> list[HostRun]:
    """Return the runs of all hosts, with the images that they need.

    Raises:
        EnvironmentProblem: a host does not answer, or an image can be neither built nor pulled.
    """
    launch_id = spec.launch_id or secrets.token_hex(6)
    several = len(spec.images) * len(spec.hosts) > 1
    runs = []
    for host in spec.hosts:
        engine = Engine(host)
        images = [engine.find_image(name, say) for name in spec.images]
        engine.prepare_locks(images[0])
        jobs = [
            Job(
                launch_id=launch_id,
                number=number,
                image=image,
                image_id=engine.image_id(image),
                manifest_name=spec.manifest.name,
                arguments=spec.arguments,
                gpus=spec.gpus,
                cpus=spec.cpus,
                memory=spec.memory,
                rounds=1 if len(images) > 1 else None,
            )
            for number, image in enumerate(images)
        ]
        runs.append(HostRun(engine, jobs, spec.manifest.read_bytes(), spec.out, say, several))
    return runs


def run_all(runs: Sequence[HostRun], work: Callable[[HostRun], None] = HostRun.to_the_end) -> int:
    """Run all hosts side by side and return the exit code; an interrupt lets each seal what it has."""
    interrupted = False
    with ThreadPoolExecutor(max_workers=max(1, len(runs))) as pool:
        # Not Thread.join: in Python 3.11 one that is interrupted takes the thread for dead.
        waiting = {pool.submit(work, run) for run in runs}
        while waiting:
            try:
                done, waiting = wait(waiting, timeout=_WAIT_S)
                for future in done:
                    future.result()
            except KeyboardInterrupt:
                interrupted = True
                for run in runs:
                    run.stop()
    if interrupted:
        return EXIT_INTERRUPTED
    return max((code for run in runs for code in run.exit_codes), default=0)


def launch_all(spec: LaunchSpec, say: Say) -> tuple[list[HostRun], int]:
    """Launch, or go on with what is left of this launch, and return the runs and the exit code.

    Raises:
        EnvironmentProblem: a host does not answer, or an image can be neither built nor pulled.
    """
    if spec.launch_id is not None and (left := find_left(spec.hosts, spec.out, say, spec.launch_id)):
        return _go_on(left)
    runs = prepare(spec, say)
    return runs, run_all(runs)


def attach_all(hosts: Sequence[str | None], out: Path, say: Say) -> tuple[list[HostRun], int]:
    """Follow what earlier launches left to its end and collect it; return the runs and the exit code.

    Raises:
        EnvironmentProblem: a host does not answer, or nothing of a launch is there.
    """
    left = find_left(hosts, out, say)
    if not left:
        raise EnvironmentProblem(f"nothing of a launch is on {', '.join(host or 'this host' for host in hosts)}")
    return _go_on(left)


def _go_on(left: Sequence[tuple[HostRun, Any | None]]) -> tuple[list[HostRun], int]:
    runs = [run for run, _ in left]
    containers = {id(run): container for run, container in left}
    return runs, run_all(runs, lambda run: run.continue_from(containers[id(run)]))


def find_left(
    hosts: Sequence[str | None], out: Path, say: Say, launch_id: str | None = None
) -> list[tuple[HostRun, Any | None]]:
    """Find what earlier launches, or the one of an id, left by its labels: the jobs, and the container if one is there.

    The volumes say which jobs a launch had; a container is there only if one was started and not yet removed.

    Raises:
        EnvironmentProblem: a host does not answer.
    """
    found: list[tuple[HostRun, Any | None]] = []
    for host in hosts:
        engine = Engine(host)
        containers = engine.client.containers.list(all=True, filters={"label": LAUNCH_LABEL})
        running = {job.launch_id: container for container in containers if (job := read_job(container))}
        for found_id, jobs in _jobs_of_volumes(engine).items():
            if launch_id not in (None, found_id):
                continue
            manifest = manifest_of(engine, jobs[0])
            several = len(jobs) > 1 or len(hosts) > 1
            found.append((HostRun(engine, jobs, manifest, out, say, several), running.get(found_id)))
    return found


def _jobs_of_volumes(engine: Engine) -> dict[str, list[Job]]:
    """The jobs of each launch on an engine in order, from the labels of their volumes."""
    volumes = engine.client.volumes.list(filters={"label": LAUNCH_LABEL})
    jobs = [job for volume in volumes if (job := read_job_label(volume.attrs.get("Labels") or {}))]
    launches: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.number):
        launches.setdefault(job.launch_id, []).append(job)
    return launches
