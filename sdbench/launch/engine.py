"""One Docker engine, here or on an ssh host: images, containers, volumes."""

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sdbench.errors import EnvironmentProblem
from sdbench.launch.options import fill_flags, make_create_options, read_data_lines
from sdbench.launch.problems import as_problem

LOCAL = "this host"
FACTS_FILE = "host_facts.txt"
JOB_LABEL = "sdbench.job"
LAUNCH_LABEL = "sdbench.launch"
LOCK_FOLDER = "/tmp/sdbench-locks"  # noqa: S108 - where native runs of the host lock their devices
ROOT = Path(__file__).resolve().parents[2]
# The kinds of image that this project builds.
KINDS = ("cpu", "cuda")

_RECONNECT_WAITS_S = (1.0, 4.0, 10.0)
_POLL_S = 0.2
_API_TIMEOUT_S = 120


class LostConnection(EnvironmentProblem):
    """An engine cannot be reached any more; what runs there goes on."""


def engine_errors() -> tuple[type[Exception], ...]:
    """Return what a call to an engine may raise: the errors of docker, of the connection below it, and of ssh."""
    from docker.errors import DockerException
    from requests import RequestException

    try:
        from paramiko import SSHException
    except ImportError:
        return DockerException, RequestException, OSError, EOFError
    return DockerException, RequestException, SSHException, OSError, EOFError


class Engine:
    """A connection to one engine, made anew when it is lost."""

    def __init__(self, host: str | None) -> None:
        """Connect to the engine of ``host`` (``ssh://user@name``), or of this host for None.

        Raises:
            EnvironmentProblem: it does not answer.
        """
        self.host = host
        self.name = host or LOCAL
        self.client = self._connect()

    def _connect(self) -> Any:
        try:
            import docker
        except ImportError:
            raise EnvironmentProblem(
                "sdbench launch needs the package docker: pip install 'sdbench[launch]', or use make bench-cpu"
            ) from None
        try:
            client = (
                docker.DockerClient(base_url=self.host, timeout=_API_TIMEOUT_S)
                if self.host
                else docker.from_env(timeout=_API_TIMEOUT_S)
            )
            client.ping()
        except Exception as error:  # noqa: BLE001 - paramiko, requests, docker and the OS each have their own
            # Marked for the table of problems: a library's words alone do not tell an ssh host from a registry.
            said = f"ssh: {error}" if self.host else error
            raise as_problem(f"Docker on {self.name} does not answer", said) from None
        return client

    @property
    def user_ids(self) -> str:
        """The caller's uid and gid; those of root in a rootless engine, where they are the caller."""
        options = self.client.info().get("SecurityOptions") or ()
        return "0:0" if any("rootless" in option for option in options) else f"{os.getuid()}:{os.getgid()}"

    def prepare_locks(self, image: str) -> None:
        """Make the folder in which runs of the engine's host wait for each other, for every user to write."""
        if self.host is None:
            Path(LOCK_FOLDER).mkdir(mode=0o777, exist_ok=True)
            with suppress(PermissionError):  # its owner has done it
                Path(LOCK_FOLDER).chmod(0o1777)
            return
        with suppress(Exception):  # a folder that somebody else owns has been prepared already
            self.client.containers.run(
                image,
                ["1777", "/locks"],
                entrypoint="chmod",
                user="0:0",
                network_mode="none",
                cap_drop=["ALL"],
                volumes=[f"{LOCK_FOLDER}:/locks"],
                remove=True,
            )

    def find_image(self, name: str, say: Callable[[str], None]) -> str:
        """Return the name of an image that is here: built for ``cpu`` and ``cuda``, else pulled if it is missing.

        Raises:
            EnvironmentProblem: it can be neither built nor pulled.
        """
        from docker.errors import DockerException, ImageNotFound

        if name in KINDS:
            return self._build(name, say)
        try:
            self.client.images.get(name)
        except ImageNotFound:
            say(f"pulling {name}")
            try:
                self.client.images.pull(name)
            except DockerException as error:
                raise as_problem(f"{name} cannot be pulled", error) from None
        return name

    def _build(self, kind: str, say: Callable[[str], None]) -> str:
        from docker.errors import DockerException

        script = ROOT / "containers" / "build_args.sh"
        if not script.is_file():
            raise EnvironmentProblem(f"{kind!r} is built from a checkout of sdbench; name an image to pull")
        lines = subprocess.run([script, kind], capture_output=True, text=True, check=True).stdout.splitlines()
        tag = f"sdbench:{kind}"
        say(f"building {tag}; the first time this takes minutes")
        output = ""
        try:
            for part in self.client.api.build(
                path=str(ROOT),
                dockerfile=f"Dockerfile.{kind}",
                tag=tag,
                buildargs=dict(line.split("=", 1) for line in lines),
                network_mode="none" if (ROOT / "requirements" / "wheels").is_dir() else None,
                decode=True,
                rm=True,
            ):
                output = output[-20_000:] + str(part.get("stream", ""))
                if "error" in part:
                    raise as_problem(f"{tag} is not built", output + str(part["error"]))
        except DockerException as error:
            raise as_problem(f"{tag} is not built", error) from None
        return tag

    def describe_host(self, image: str) -> str:
        """Return as JSON what a container of ``image`` cannot see of its host.

        Raises:
            EnvironmentProblem: the image is gone.
        """
        from docker.errors import ImageNotFound

        info = self.client.info()
        try:
            attributes = self.client.images.get(image).attrs
        except ImageNotFound as error:
            raise as_problem(f"{self.name}: the image is gone", error) from None
        return json.dumps(
            {
                "info": {name: info.get(name) for name in read_data_lines(FACTS_FILE)},
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
        from docker.errors import DockerException

        try:
            return self.client.containers.create(image, command, **make_create_options(fill_flags(values), os.environ))
        except DockerException as error:
            raise as_problem(f"{self.name}: the container cannot be made", error) from None

    def image_id(self, name: str) -> str:
        """Return the id of an image that is here: unlike its name it cannot come to mean another one."""
        return str(self.client.images.get(name).id)

    def follow(self, container_id: str, show: Callable[[str], None]) -> None:
        """Hand each line that a container prints to ``show``, until it ends; reconnect when the connection breaks.

        Raises:
            LostConnection: the engine does not come back; the container goes on.
        """
        seen = failures = 0
        while True:
            try:
                container = self.client.containers.get(container_id)
                for number, line in enumerate(_lines(container.logs(stream=True, follow=True))):
                    if number >= seen:
                        seen, failures = number + 1, 0
                        show(line)
                while container.status in ("running", "restarting"):
                    time.sleep(_POLL_S)
                    container.reload()
            except Exception as error:  # noqa: BLE001 - paramiko, requests, docker and the OS each have their own
                if failures == len(_RECONNECT_WAITS_S):
                    raise LostConnection(
                        f"lost {self.name} ({' '.join(str(error).split())[:100]}); the container goes on there: "
                        f"collect it with sdbench launch --attach{f' --host {self.host}' if self.host else ''}"
                    ) from None
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

    @contextmanager
    def opened_folder(self, container: Any, folder: str) -> Iterator[tarfile.TarFile]:
        """Yield a folder of a container as a tar archive."""
        chunks, _ = container.get_archive(folder)
        content = io.BytesIO(b"".join(chunks))
        with tarfile.open(fileobj=content) as archive:
            yield archive

    def remove(self, container: Any) -> None:
        """Remove a container, running or never started, with its anonymous volumes."""
        from docker.errors import NotFound

        with suppress(NotFound):
            container.remove(force=True, v=True)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a volume, unless it is there."""
        self.client.volumes.create(name, labels=dict(labels))

    def remove_volume(self, name: str) -> None:
        """Remove a volume, if it is there."""
        from docker.errors import NotFound

        with suppress(NotFound):
            self.client.volumes.get(name).remove(force=True)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def _toolkit_version() -> str:
    try:
        done = subprocess.run(["nvidia-ctk", "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.splitlines()[0] if done.stdout else ""
