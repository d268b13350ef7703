"""One Docker engine, here or on an ssh host: images, containers, volumes."""

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from sdbench.containers.build import CUDA, KINDS, build_image, choose_cuda
from sdbench.containers.engine_errors import as_problem, docker_problems
from sdbench.containers.options import fill_flags, make_create_options, read_data_lines
from sdbench.errors import EnvironmentProblem, SdbenchError
from sdbench.privacy import strip_credentials
from sdbench.store.lock import LOCK_FOLDER, make_lock_folder

JOB_LABEL = "sdbench.job"
SCHEDULE_LABEL = "sdbench.schedule"

_RECONNECT_WAITS_S = (1.0, 4.0, 10.0)
_POLL_S = 0.2
_API_TIMEOUT_S = 120

Emit = Callable[[str], None]


class LostConnection(EnvironmentProblem):
    """An engine cannot be reached any more; what runs there continues."""


def engine_errors() -> tuple[type[Exception], ...]:
    """Return what work on an engine may raise: sdbench's errors, Docker's, and those of the connection and of ssh."""
    from docker.errors import DockerException
    from paramiko import SSHException
    from urllib3.exceptions import HTTPError

    # Those of requests are OSErrors; a stream that breaks off is an HTTPError.
    return SdbenchError, DockerException, OSError, EOFError, SSHException, HTTPError


class Engine:
    """A connection to one engine, opened again when it is lost."""

    def __init__(self, host: str | None) -> None:
        """Connect to the engine of ``host`` (``ssh://user@name``), or of this host for None.

        Raises:
            EnvironmentProblem: it does not answer.
        """
        self.host = host
        self.name = strip_credentials(host) if host else "this host"
        self.client = self._connect()

    def _connect(self) -> Any:
        try:
            import docker
        except ImportError:
            raise EnvironmentProblem(
                "sdbench run --image needs the package docker: pip install 'sdbench[containers]', or use make bench-cpu"
            ) from None
        # ValueError: the address is invalid.
        errors: tuple[type[Exception], ...] = (*engine_errors(), ValueError)
        try:
            environment = {"DOCKER_HOST": self.host} if self.host else None
            client = docker.from_env(timeout=_API_TIMEOUT_S, environment=environment)
            client.ping()
        except errors as error:
            # Marked for the table of errors: a library's text alone does not distinguish an ssh host from a registry.
            text = strip_credentials(f"ssh: {error}" if self.host else str(error))
            raise as_problem(f"Docker on {self.name} does not answer", text) from None
        if any("podman" in str(part.get("Name")).lower() for part in client.version().get("Components") or ()):
            raise EnvironmentProblem(
                f"the engine on {self.name} is Podman, which is not supported; "
                "install Docker, or run natively: make bench"
            )
        return client

    def as_problem(self, error: Exception) -> SdbenchError:
        """Return the problem to raise for one of ``engine_errors``: what the engine answered, or a lost connection."""
        from docker.errors import DockerException

        if isinstance(error, SdbenchError):
            return error
        if isinstance(error, DockerException):
            return as_problem(self.name, error)
        where = f" --host {self.host}" if self.host else ""
        return LostConnection(
            f"lost {self.name} ({' '.join(str(error).split())[:100]}); what runs there continues: "
            f"collect its records with sdbench run --attach{where}"
        )

    @property
    def user_ids(self) -> str:
        """The caller's uid and gid; those of root in a rootless engine, where they are the caller."""
        options = self.client.info().get("SecurityOptions") or ()
        return "0:0" if any("rootless" in option for option in options) else f"{os.getuid()}:{os.getgid()}"

    def prepare_locks(self, image: str) -> None:
        """Make the folder in which runs of the engine's host wait for each other, for every user to write."""
        if self.host is None:
            make_lock_folder(LOCK_FOLDER)
            return
        with suppress(Exception):  # a folder that somebody else owns has been prepared already
            isolated = {"network_mode": "none", "cap_drop": ["ALL"], "volumes": [f"{LOCK_FOLDER}:/locks"]}
            self.client.containers.run(
                image, ["1777", "/locks"], entrypoint="chmod", user="0:0", remove=True, **isolated
            )

    def find_image(self, name: str, emit: Emit) -> str:
        """Return the name of an image of this engine: built for a kind of ours, else pulled if it is missing.

        Raises:
            UserError: ``cuda``, and the variable CUDA is neither 12 nor 13.
            EnvironmentProblem: it can be neither built nor pulled, or the host's driver runs no CUDA image.
        """
        from docker.errors import ImageNotFound

        if name == CUDA:
            name = choose_cuda(self.client, self.host, lambda text: emit(f"{self.name}: {text}"))
        if name in KINDS:
            return build_image(self.client, name, emit)
        try:
            self.client.images.get(name)
        except ImageNotFound:
            emit(f"pulling {name}")
            with docker_problems(f"{name} cannot be pulled"):
                self.client.images.pull(name)
        return name

    def image_kind(self, image: str) -> str:
        """Return the kind of an image of this project by its label, and an empty text for other images."""
        return str(self.client.images.get(image).labels.get("sdbench.kind", ""))

    def describe_host(self, image: str) -> str:
        """Return as JSON what a container of ``image`` cannot see of its host.

        Raises:
            EnvironmentProblem: the image is gone.
        """
        info = self.client.info()
        with docker_problems(f"{self.name}: the image is gone"):
            attributes = self.client.images.get(image).attrs
        return json.dumps(
            {
                "info": {name: info.get(name) for name in read_data_lines("host_facts.txt")},
                "image": {name: attributes.get(name) for name in ("Id", "RepoDigests")},
                "toolkit": _toolkit_version() if self.host is None else "",
            },
            separators=(",", ":"),
        )

    def create(self, image: str, command: list[str], values: Mapping[str, str]) -> Any:
        """Return a new container with the shared set of options.

        Raises:
            EnvironmentProblem: the engine refuses.
        """
        options = make_create_options(fill_flags(values), os.environ)
        with docker_problems(f"{self.name}: the container cannot be made"):
            return self.client.containers.create(image, command, **options)

    def follow(self, container_id: str, show: Callable[[str], None]) -> None:
        """Pass each line that a container prints to ``show``, until it ends; reconnect when the connection breaks.

        Raises:
            EnvironmentProblem: the engine refuses, or (LostConnection) does not come back; the container continues.
        """
        shown = failures = 0
        while True:
            try:
                container = self.client.containers.get(container_id)
                for number, line in enumerate(_lines(container.logs(stream=True, follow=True))):
                    if number >= shown:
                        shown, failures = number + 1, 0
                        show(line)
                while container.status in ("running", "restarting"):
                    time.sleep(_POLL_S)
                    container.reload()
            except engine_errors() as error:
                if failures == len(_RECONNECT_WAITS_S):
                    raise self.as_problem(error) from None
                time.sleep(_RECONNECT_WAITS_S[failures])
                failures += 1
                with suppress(EnvironmentProblem):
                    self.client = self._connect()
            else:
                return

    def put_file(self, container: Any, folder: str, name: str, content: bytes) -> None:
        """Write a file that all may read into a volume of a container."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
        container.put_archive(folder, stream.getvalue())

    def remove(self, container: Any) -> None:
        """Remove a container, running or never started, with its anonymous volumes."""
        from docker.errors import NotFound

        with suppress(NotFound):
            container.remove(force=True, v=True)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def _toolkit_version() -> str:
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["nvidia-ctk", "--version"], capture_output=True, text=True, timeout=10)
        return done.stdout.partition("\n")[0]
    return ""
