"""A manifest run in images, on this host or others: hosts in parallel, and the records collected."""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from sdbench import exit_codes
from sdbench.containers.build import CUDA, KINDS
from sdbench.containers.engine import SCHEDULE_LABEL, Emit, Engine
from sdbench.containers.jobs import Job, read_files, read_job
from sdbench.containers.schedule import HostRun
from sdbench.errors import EnvironmentProblem
from sdbench.plan.make_plan import PlanRequest, request_arguments
from sdbench.plan.manifest_file import load_manifest
from sdbench.plan.own_pipelines import refuse_own_pipeline
from sdbench.plan.shipped import find_manifest
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.store.files import make_folder

_WAIT_S = 0.2


@dataclass(frozen=True)
class ImageRequest:
    """Where to run: images (built from this checkout if named as a kind of ours), hosts, and limits.

    Without ``gpus`` an image for CUDA gets all of them, unless the request is for the CPU.
    ``schedule_id`` resumes an earlier schedule of that id.
    """

    images: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    gpus: str = ""
    cpus: str = ""
    memory: str = ""
    schedule_id: str | None = None


@dataclass(frozen=True)
class ImageRuns:
    """The folders of the collected runs by host and image, the problems, and the exit code."""

    folders: tuple[Path, ...]
    problems: tuple[str, ...]
    exit_code: int


def run_images(request: PlanRequest, where: ImageRequest, out: Path, emit: Emit) -> ImageRuns:
    """Run a manifest in images, interleaved per host, and collect the runs.

    Raises:
        UserError: the manifest is invalid.
        EnvironmentProblem: a host does not answer, an image is not available, or the folder is not writable.
    """
    manifest = find_manifest(request.manifest)
    load_manifest(manifest)
    refuse_own_pipeline(request.settings, "a container")
    # Before hours of measuring that could not be copied there.
    make_folder(out)
    with terminate_as_interrupt():
        runs = _find_unfinished(where.hosts, out, emit, where.schedule_id) if where.schedule_id else []
        return _run_all(runs or _prepare(manifest, request, where, out, emit))


def attach(hosts: Sequence[str], out: Path, emit: Emit) -> ImageRuns:
    """Follow the unfinished runs of earlier schedules on hosts, or on this one, to their end, and collect them.

    Raises:
        EnvironmentProblem: a host does not answer, or has no such run.
    """
    with terminate_as_interrupt():
        runs = _find_unfinished(hosts, out, emit)
        if not runs:
            raise EnvironmentProblem(f"no unfinished run on {', '.join(hosts) or 'this host'}; start one with --image")
        return _run_all(runs)


def _prepare(manifest: Path, request: PlanRequest, where: ImageRequest, out: Path, emit: Emit) -> list[HostRun]:
    names = tuple(dict.fromkeys(where.images))
    several = len(names) * max(1, len(where.hosts)) > 1
    schedule_id = where.schedule_id or secrets.token_hex(6)
    runs = []
    for host in where.hosts or (None,):
        engine = Engine(host)
        images = tuple(dict.fromkeys(engine.find_image(name, emit) for name in names))
        engine.prepare_locks(images[0])
        jobs = []
        for number, image in enumerate(images):
            kind = engine.image_kind(image)
            gpus = where.gpus or ("all" if request.device != "cpu" and kind.startswith(CUDA) else "")
            # A container that was given a GPU and cannot use it fails, instead of measuring the CPU. One that was not
            # sees the files of the host's driver all the same.
            meant = "cuda" if gpus else "cpu" if kind in KINDS else "auto"
            device = meant if request.device == "auto" else request.device
            job = Job(
                schedule_id=schedule_id,
                number=number,
                image=image,
                # Unlike the name it cannot come to mean another image.
                image_id=str(engine.client.images.get(image).id),
                manifest_name=manifest.name,
                arguments=tuple(request_arguments(replace(request, device=device))),
                gpus=gpus,
                cpus=where.cpus,
                memory=where.memory,
                rounds=1 if len(images) > 1 else None,
            )
            jobs.append(job)
        runs.append(HostRun(engine, jobs, manifest.read_bytes(), out=out, emit=emit, several=several))
    return runs


def _find_unfinished(hosts: Sequence[str], out: Path, emit: Emit, schedule_id: str | None = None) -> list[HostRun]:
    """The unfinished runs of earlier schedules, or the one of an id.

    The labels of volumes name the jobs of a schedule; a container is there only if one was started and not yet removed.
    """
    runs: list[HostRun] = []
    for host in hosts or (None,):
        engine = Engine(host)
        ours = {"label": SCHEDULE_LABEL}
        containers = engine.client.containers.list(all=True, filters=ours)
        left = {job.schedule_id: container for container in containers if (job := read_job(container.labels))}
        schedules: defaultdict[str, list[Job]] = defaultdict(list)
        for volume in engine.client.volumes.list(filters=ours):
            if (job := read_job(volume.attrs.get("Labels"))) and schedule_id in (None, job.schedule_id):
                schedules[job.schedule_id].append(job)
        for left_id, jobs in schedules.items():
            jobs.sort(key=lambda job: job.number)
            several = len(jobs) > 1 or len(hosts) > 1
            manifest = b"".join(read_files(engine, jobs[0], f"results/{jobs[0].manifest_name}"))
            run = HostRun(engine, jobs, manifest, out=out, emit=emit, several=several, resumes=True)
            run.container = left.get(left_id)
            runs.append(run)
    return runs


def _run_all(runs: Sequence[HostRun]) -> ImageRuns:
    interrupted = False
    with ThreadPoolExecutor(max_workers=len(runs)) as pool:
        # Not Thread.join: in Python 3.11 one that is interrupted takes the thread for dead.
        waiting = {pool.submit(run.run) for run in runs}
        while waiting:
            try:
                done, waiting = wait(waiting, timeout=_WAIT_S)
                for future in done:
                    future.result()
            except KeyboardInterrupt:
                interrupted = True
                for run in runs:
                    run.stop()
    codes = [exit_codes.INTERRUPTED] if interrupted else [code for run in runs for code in run.exit_codes]
    return ImageRuns(
        folders=tuple(folder for run in runs for folder in run.folders),
        problems=tuple(problem for run in runs for problem in run.problems),
        exit_code=max(codes, default=0),
    )
