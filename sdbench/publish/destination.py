"""Where published bundles are: a folder, a bucket, or a web server. Objects are created, never replaced."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sdbench.errors import RecordError
from sdbench.store.files import create_whole, read_file, sync_folder

# Several requests under way at once hide the way to the store and back.
REQUESTS_AT_ONCE = 8
# So much is held of several objects at once; a larger one comes alone.
_HELD_BYTES_MAX = 256 * 2**20


class Destination(ABC):
    """A store of objects by name (``folder/file``).

    Raises:
        EnvironmentProblem: every method, where the store is out of reach, full, or refuses.
    """

    url: str

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Create a complete object; return False, and change nothing, if one of this name exists."""

    @abstractmethod
    def find(self, name: str, most_bytes: int) -> bytes | None:
        """Return an object's bytes, or None if there is none.

        Raises:
            RecordError: it has more than ``most_bytes``.
        """

    @abstractmethod
    def list_sizes(self) -> Mapping[str, int]:
        """Return the size (bytes) of every object by its name; 0 where the store does not report it."""

    def probe(self) -> None:  # noqa: B027 - a folder's links need no probe
        """Refuse with EnvironmentProblem a store that lets several writers of one name win, or cannot be written."""

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return an object's bytes.

        Raises:
            RecordError: there is no such object, or it has more than ``most_bytes``.
        """
        content = self.find(name, most_bytes)
        if content is None:
            raise RecordError(f"{self.url}/{name}: no such object; ask who published it")
        return content


class FolderDestination(Destination):
    """A folder: temporary file, fsync, link. A link appears complete, and never replaces a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    def create(self, name: str, content: bytes) -> bool:
        """Create a complete file; return False, and change nothing, if one of this name exists."""
        is_new = create_whole(self.folder / name, content)
        sync_folder(self.folder)
        return is_new

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return a file's bytes; a pipe or a device is no file."""
        return read_file(self.folder / name, most_bytes)

    def find(self, name: str, most_bytes: int) -> bytes | None:
        """Return a file's bytes, or None if there is none."""
        return self.read(name, most_bytes) if (self.folder / name).is_file() else None

    def list_sizes(self) -> Mapping[str, int]:
        """Return the sizes (bytes) of all files one folder down, without drafts that a crash left."""
        paths = (path for path in self.folder.glob("*/*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in paths}


def read_all(
    destination: Destination, sizes_bytes: Mapping[str, int], names: Sequence[str], most_bytes: int
) -> Iterator[tuple[str, bytes | RecordError]]:
    """Yield names and bytes of objects in their order, or why one cannot be read; few of them at once."""

    def read(name: str) -> bytes | RecordError:
        try:
            return destination.read(name, most_bytes)
        except RecordError as problem:
            return problem

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        waiting = deque(names)
        while waiting:
            batch = [waiting.popleft()]
            held_bytes = sizes_bytes[batch[0]]
            while waiting and len(batch) < REQUESTS_AT_ONCE:
                held_bytes += sizes_bytes[waiting[0]]
                if held_bytes > _HELD_BYTES_MAX:
                    break
                batch.append(waiting.popleft())
            yield from zip(batch, pool.map(read, batch), strict=True)
