"""Where published bundles lie: a folder, or anything fsspec knows. Objects are created, never replaced."""

import contextlib
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.probes.privacy import strip_credentials
from sdbench.store.files import sync_folder
from sdbench.units import format_bytes

# Several requests under way at once hide the way to the store and back.
REQUESTS_AT_ONCE = 8
# So much is held of several objects at once; a larger one comes alone.
_HELD_BYTES_MAX = 256 * 2**20
# More than any bundle has.
_ONE_PUT_BYTES = 2**31
# What S3 answers where there is an object, and where two writers of one name are under way.
_IS_THERE = ("PreconditionFailed", "412")
_CONFLICTS = ("ConditionalRequestConflict", "409")
_CONFLICT_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)
_PROBE_WRITERS = 6
_PROBE_BYTES_MAX = 1024
_REFUSED = re.compile(r"credential|token|forbidden|denied|permission|expired|\b403\b")
_PROBE_PREFIX = ".sdbench-probe-"
# Of these packages come the errors of the stores that were tried; others keep to OSError.
_STORE_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure", "requests", "urllib3", "paramiko")


class Destination(Protocol):
    """A store of objects by name (``folder/file``)."""

    url: str

    def create(self, name: str, content: bytes) -> bool:
        """Create an object whole; return False, and change nothing, where there is one of this name."""

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return an object's bytes, refusing one that has more than ``most_bytes`` before it is read."""

    def find(self, name: str, most_bytes: int) -> bytes | None:
        """Do what ``read`` does, and return None where there is no such object."""

    def size_bytes(self, name: str) -> int:
        """Return the size (bytes) of an object that was listed; 0 where the store tells none."""

    def list_names(self) -> tuple[str, ...]:
        """Return the names of all objects, sorted."""

    def probe(self) -> None:
        """Make sure that of several writers of one name one wins and the others are told."""


def open_destination(url: str) -> Destination:
    """Return the store at a path or URL.

    Raises:
        UserError: no such kind of store.
        EnvironmentProblem: a package that it needs is not installed, or its credentials are missing.
    """
    if not url.strip():
        raise UserError("an empty text names no folder or store; is a variable unset?")
    if "://" not in url:
        return FolderDestination(Path(url).expanduser())
    if url.startswith("file://"):
        return FolderDestination(Path(url.removeprefix("file://")))
    return _open_remote(url)


class FolderDestination:
    """A folder: temporary file, fsync, link. A link appears whole, and loses to one that was there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    def create(self, name: str, content: bytes) -> bool:
        """Create a file whole; return False, and change nothing, where there is one of this name.

        Raises:
            EnvironmentProblem: the folder is not writable, full, or has no hard links.
        """
        path = self.folder / name
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("xb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.link(draft, path)
            except FileExistsError:
                return False
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(path.parent)
            sync_folder(self.folder)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot write {path}: {error.strerror}; check the folder, its free space, and that it has hard links"
            ) from None
        return True

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return a file's bytes.

        Raises:
            RecordError: it has more than ``most_bytes``.
            EnvironmentProblem: it cannot be read.
        """
        try:
            _refuse_size((self.folder / name).stat().st_size, most_bytes, str(self.folder / name))
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise EnvironmentProblem(f"cannot read {self.folder / name}: {error.strerror}; check the path") from None

    def find(self, name: str, most_bytes: int) -> bytes | None:
        """Do what ``read`` does, and return None where there is no such file."""
        return self.read(name, most_bytes) if (self.folder / name).is_file() else None

    def size_bytes(self, name: str) -> int:
        """Return the size (bytes) of a file."""
        return (self.folder / name).stat().st_size

    def list_names(self) -> tuple[str, ...]:
        """Return the names of all files one folder down, sorted; drafts that a crash left are none."""
        if not self.folder.is_dir():
            return ()
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.glob("*/*") if path.is_file())
        return tuple(sorted(name for name in found if not name.rpartition("/")[2].startswith(".")))

    def probe(self) -> None:
        """Do nothing: a link is made once, or not at all."""


class RemoteDestination:
    """A store that fsspec knows: one create-only PUT an object."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url = strip_credentials(url)
        # By itself it would send a large object in parts, which is another request than the one that is probed.
        self._put_options = {"chunksize": _ONE_PUT_BYTES} if url.startswith(("s3://", "s3a://")) else {}
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._sizes: dict[str, int | None] = {}

    def create(self, name: str, content: bytes) -> bool:
        """Create an object whole; return False, and change nothing, where there is one of this name.

        Raises:
            EnvironmentProblem: the store is out of reach or refuses.
        """
        path = f"{self._root}/{name}"
        with explain(f"write {name} to", self.url):
            for pause_s in (*_CONFLICT_PAUSES_S, None):
                try:
                    self._filesystem.pipe_file(path, content, mode="create", **self._put_options)
                except FileExistsError:
                    return False
                except OSError as error:
                    code = _answer_of(error)
                    if code in _IS_THERE:
                        return False
                    if code not in _CONFLICTS or pause_s is None:
                        raise
                    # Another writer of this name is under way; who of us wins is not decided yet.
                    time.sleep(pause_s)
                else:
                    return True
        return False

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return an object's bytes.

        Raises:
            RecordError: it has more than ``most_bytes``.
            EnvironmentProblem: the store is out of reach, refuses, or has no such object.
        """
        with explain(f"read {name} from", self.url):
            return self._read(name, most_bytes)

    def find(self, name: str, most_bytes: int) -> bytes | None:
        """Do what ``read`` does, and return None where there is no such object."""
        with explain(f"read {name} from", self.url):
            try:
                return self._read(name, most_bytes)
            except FileNotFoundError:
                return None

    def _read(self, name: str, most_bytes: int) -> bytes:
        path = f"{self._root}/{name}"
        # Of what was listed the size is known; some stores tell none.
        size_bytes = self._sizes.get(name) or self._filesystem.size(path)
        _refuse_size(size_bytes or 0, most_bytes, f"{self.url}/{name}")
        if size_bytes is not None and not self.url.startswith(("http://", "https://")):
            # What is asked for is no more than it said, whatever it sends.
            return bytes(self._filesystem.cat_file(path, start=0, end=size_bytes)) if size_bytes else b""
        # A web server may say one size and send another.
        with self._filesystem.open(path, "rb", block_size=0) as stream:
            content = bytes(stream.read(most_bytes + 1))
        _refuse_size(len(content), most_bytes, f"{self.url}/{name}")
        return content

    def size_bytes(self, name: str) -> int:
        """Return the size (bytes) of an object that was listed; 0 where the store tells none."""
        return self._sizes.get(name) or 0

    def list_names(self) -> tuple[str, ...]:
        """Return the names of all objects, sorted.

        Raises:
            EnvironmentProblem: the store is out of reach or refuses.
        """
        with explain("list", self.url):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.find(self._root, detail=True)
            except FileNotFoundError:
                # A store has no empty folders; a bucket that is missing shows when something is written.
                return ()
            root = self._filesystem._strip_protocol(self._root).rstrip("/")  # noqa: SLF001 fsspec's way to a full name
            sizes = {str(name).removeprefix(root).lstrip("/"): info.get("size") for name, info in found.items()}
            self._sizes = {name: size for name, size in sizes.items() if not name.startswith(_PROBE_PREFIX)}
            return tuple(sorted(self._sizes))

    def probe(self) -> None:
        """Let several writers create one object: exactly one must win, and its bytes must be what is there.

        Many stores take the wish to create only and overwrite all the same.

        Raises:
            EnvironmentProblem: the store does not honour it, or refuses.
        """
        name = f"{_PROBE_PREFIX}{secrets.token_hex(8)}"
        contents = [str(writer).encode() * 64 for writer in range(_PROBE_WRITERS)]
        # One after the other, then all at once: a store that looks first and writes then passes the first only.
        first = self.create(f"{name}-1", b"1"), self.create(f"{name}-1", b"2")
        with ThreadPoolExecutor(_PROBE_WRITERS) as pool:
            won = list(pool.map(lambda content: self.create(f"{name}-2", content), contents))
        honoured = first == (True, False) and won.count(True) == 1
        honoured = honoured and self.read(f"{name}-2", _PROBE_BYTES_MAX) == contents[won.index(True)]
        with contextlib.suppress(Exception), explain("clean up", self.url):
            self._filesystem.rm([f"{self._root}/{name}-1", f"{self._root}/{name}-2"])
        if not honoured:
            raise EnvironmentProblem(
                f"{self.url}: the store does not keep to create-only writes, so a run could replace another; "
                "publish to one that does (S3, Google Cloud Storage, Azure, a folder)"
            )


def _open_remote(url: str) -> RemoteDestination:
    try:
        import fsspec
    except ImportError:
        msg = f"{strip_credentials(url)}: fsspec is not installed; install the extra: pip install 'sdbench[publish]'"
        raise EnvironmentProblem(msg) from None
    try:
        with explain("open", url):
            filesystem, root = _locate(fsspec, url)
    except ImportError as error:
        msg = f"{strip_credentials(url)}: {error}"
        raise EnvironmentProblem(msg) from None
    return RemoteDestination(url, filesystem, root)


def _locate(fsspec: Any, url: str) -> tuple[Any, str]:
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except ValueError as error:
        raise UserError(
            f"{strip_credentials(url)}: {error}; write a folder, s3://BUCKET/FOLDER or another URL that fsspec knows"
        ) from None
    return filesystem, root


def read_all(
    destination: Destination, names: Sequence[str], most_bytes: int
) -> Iterator[tuple[str, bytes | RecordError]]:
    """Yield names and bytes of objects in their order, or why one is too large; few of them at once."""

    def read(name: str) -> bytes | RecordError:
        try:
            return destination.read(name, most_bytes)
        except RecordError as problem:
            return problem

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        waiting = deque(names)
        while waiting:
            some = [waiting.popleft()]
            held_bytes = destination.size_bytes(some[0])
            while waiting and len(some) < REQUESTS_AT_ONCE:
                held_bytes += destination.size_bytes(waiting[0])
                if held_bytes > _HELD_BYTES_MAX:
                    break
                some.append(waiting.popleft())
            yield from zip(some, pool.map(read, some), strict=True)


def _refuse_size(size_bytes: int, most_bytes: int, name: str) -> None:
    if size_bytes > most_bytes:
        raise RecordError(f"{name}: {format_bytes(size_bytes)}, too large for what it says it is; do not trust it")


@contextlib.contextmanager
def explain(doing: str, url: str) -> Iterator[None]:
    """Turn what a store's library raises into one line.

    Raises:
        EnvironmentProblem: in place of the library's own error.
    """
    try:
        yield
    except (FileExistsError, ImportError, EnvironmentProblem, UserError):
        raise
    except Exception as error:
        # Every store has errors of its own; what is none of theirs is a bug and stays one.
        package = type(error).__module__.partition(".")[0]
        known = isinstance(error, OSError | EOFError | NotImplementedError | ValueError)
        if not known and package not in _STORE_PACKAGES:
            raise
        text = strip_credentials(" ".join(str(error).split()))[:200] or type(error).__name__
        raise EnvironmentProblem(f"cannot {doing} {strip_credentials(url)}: {text}; {_remedy(error, text)}") from None


def _answer_of(error: BaseException | None) -> str:
    """What a store answered, where an error says it or comes of one that does."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__ or error.__context__
    return ""


def _remedy(error: Exception, text: str) -> str:
    words = f"{type(error).__name__} {_answer_of(error)} {text}".lower()
    if isinstance(error, NotImplementedError):
        return "this kind of store cannot do it; use another"
    # A number may be a port, or stand in a hash.
    if _REFUSED.search(words):
        return "check the credentials, and that they are not expired"
    if isinstance(error, FileNotFoundError):
        return "check the name of the bucket or folder"
    return "check the network and run the same command again: nothing is half written"
