"""Where published bundles lie: a folder, or anything fsspec knows. Objects are created, never replaced."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.store.files import sync_folder
from sdbench.units import format_bytes

# Several requests under way at once hide the way to the store and back.
REQUESTS_AT_ONCE = 8
_PROBE_WRITERS = 6
_PROBE_BYTES_MAX = 1024
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
    if "://" not in url:
        return FolderDestination(Path(url))
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
        self.url = url
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._sizes: dict[str, int | None] = {}

    def create(self, name: str, content: bytes) -> bool:
        """Create an object whole; return False, and change nothing, where there is one of this name.

        Raises:
            EnvironmentProblem: the store is out of reach or refuses.
        """
        with explain(f"write {name} to", self.url):
            try:
                self._filesystem.pipe_file(f"{self._root}/{name}", content, mode="create")
            except FileExistsError:
                return False
        return True

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return an object's bytes.

        Raises:
            RecordError: it has more than ``most_bytes``.
            EnvironmentProblem: the store is out of reach, refuses, or has no such object.
        """
        path = f"{self._root}/{name}"
        with explain(f"read {name} from", self.url):
            # Of what was listed the size is known; some stores tell none.
            size_bytes = self._sizes.get(name) or self._filesystem.size(path)
        _refuse_size(size_bytes or 0, most_bytes, f"{self.url}/{name}")
        with explain(f"read {name} from", self.url):
            if size_bytes is not None:
                return bytes(self._filesystem.cat_file(path))
            with self._filesystem.open(path, "rb") as stream:
                content = bytes(stream.read(most_bytes + 1))
        _refuse_size(len(content), most_bytes, f"{self.url}/{name}")
        return content

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
        msg = f"{url}: fsspec is not installed; install the extra: pip install 'sdbench[publish]'"
        raise EnvironmentProblem(msg) from None
    try:
        with explain("open", url):
            filesystem, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        msg = f"{url}: {error}"
        raise EnvironmentProblem(msg) from None
    except ValueError as error:
        raise UserError(
            f"{url}: {error}; write a folder, s3://BUCKET/FOLDER or another URL that fsspec knows"
        ) from None
    return RemoteDestination(url, filesystem, root)


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
        for start in range(0, len(names), REQUESTS_AT_ONCE):
            some = names[start : start + REQUESTS_AT_ONCE]
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
    except (FileExistsError, ImportError, EnvironmentProblem, RecordError):
        raise
    except Exception as error:
        # Every store has errors of its own; what is none of theirs is a bug and stays one.
        package = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError | EOFError) and package not in _STORE_PACKAGES:
            raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise EnvironmentProblem(f"cannot {doing} {url}: {text}; {_remedy(error, text)}") from None


def _remedy(error: Exception, text: str) -> str:
    words = f"{type(error).__name__} {text}".lower()
    if any(word in words for word in ("credential", "token", "forbidden", "denied", "permission", "expired", "403")):
        return "check the credentials, and that they are not expired"
    if isinstance(error, FileNotFoundError):
        return "check the name of the bucket or folder"
    return "check the network and run the same command again: nothing is half written"
