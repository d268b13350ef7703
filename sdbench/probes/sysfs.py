"""Small files of the kernel as readings: what cannot be read is unknown, with the path and the reason.

Every reader takes a ``root`` so that tests replay recorded trees.
"""

import errno
import re
from pathlib import Path

from sdbench.probes.readings import ReadingFailed, as_reading, value_of, value_or
from sdbench.schema.base import Reading

ROOT = Path("/")
CPU = "sys/devices/system/cpu"

_REASONS = {
    errno.ENOENT: "not there",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ESRCH: "the process has ended",
}


def explain_os_error(error: OSError, name: str) -> str:
    """Return why the file called ``name`` could not be read, without the user's paths."""
    return f"{name}: {_REASONS.get(error.errno or 0) or error.strerror or type(error).__name__}"


@as_reading
def read_text(root: Path, name: str) -> str:
    """Return the stripped text of ``root/name`` (name without leading slash), or why it cannot be read."""
    try:
        text = (root / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise ReadingFailed(explain_os_error(error, f"/{name}")) from None
    if not text:
        raise ReadingFailed(f"/{name}: empty")
    return text


@as_reading
def read_int(root: Path, name: str) -> int:
    """Return the decimal integer in ``root/name``, or why there is none."""
    text = value_of(read_text(root, name))
    try:
        return int(text)
    except ValueError:
        raise ReadingFailed(f"/{name}: {text[:40]!r} is not an integer") from None


def read_colon_table(text: str) -> dict[str, str]:
    """Return the first value of each ``key : value`` line, as in /proc/cpuinfo, meminfo and status."""
    table: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            table.setdefault(key.strip(), value.strip())
    return table


@as_reading
def find_cpuinfo(cpuinfo: Reading[str], *keys: str) -> str:
    """Return the first value in /proc/cpuinfo of the first of ``keys`` that is there, or that there is none."""
    table = read_colon_table(value_or(cpuinfo, ""))
    for key in keys:
        if table.get(key):
            return " ".join(table[key].split())
    raise ReadingFailed(f"/proc/cpuinfo: no line {' or '.join(keys)}")


@as_reading
def read_kib(root: Path, name: str, key: str) -> int:
    """Return in bytes the line ``key:  1234 kB`` of ``root/name``, or why there is none."""
    words = read_colon_table(value_of(read_text(root, name))).get(key, "").split()
    if not words or not words[0].isdecimal():
        raise ReadingFailed(f"/{name}: no line {key}")
    return int(words[0]) * 1024


@as_reading
def list_names(root: Path, name: str) -> tuple[str, ...]:
    """Return the sorted entries of the folder ``root/name``, or why it cannot be listed."""
    try:
        return tuple(sorted(entry.name for entry in (root / name).iterdir()))
    except OSError as error:
        raise ReadingFailed(explain_os_error(error, f"/{name}")) from None


def list_cpus(root: Path) -> list[str]:
    """Return the folder of each CPU under ``root``, in their order; none where they cannot be listed."""
    names = value_or(list_names(root, CPU), ())
    numbers = sorted(int(name[3:]) for name in names if re.fullmatch(r"cpu\d+", name))
    return [f"{CPU}/cpu{number}" for number in numbers]
