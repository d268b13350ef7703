"""Small files of the kernel as readings: what cannot be read is unknown, with the path and the reason.

Every reader takes a ``root`` so that tests replay recorded trees.
"""

import errno
from pathlib import Path

from sdbench.schema.base import Known, Reading, Unknown

ROOT = Path("/")

_REASONS = {
    errno.ENOENT: "not there",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ESRCH: "the process has ended",
}


def explain_os_error(error: OSError, name: str) -> Unknown:
    """Return why the file called ``name`` could not be read, without the user's paths."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
    return Unknown(reason=f"{name}: {reason}")


def read_text(root: Path, name: str) -> Reading[str]:
    """Return the stripped text of ``root/name`` (name without leading slash), or why it cannot be read."""
    try:
        text = (root / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return explain_os_error(error, f"/{name}")
    return Known(value=text) if text else Unknown(reason=f"/{name}: empty")


def read_int(root: Path, name: str) -> Reading[int]:
    """Return the decimal integer in ``root/name``, or why there is none."""
    text = read_text(root, name)
    if isinstance(text, Unknown):
        return text
    try:
        return Known(value=int(text.value))
    except ValueError:
        return Unknown(reason=f"/{name}: {text.value[:40]!r} is no integer")


def read_colon_table(text: str) -> dict[str, str]:
    """Return the first value of each ``key : value`` line, as in /proc/cpuinfo, meminfo and status."""
    table: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            table.setdefault(key.strip(), value.strip())
    return table


def read_kib(text: Reading[str], key: str, name: str) -> Reading[int]:
    """Return in bytes the line ``key:  1234 kB`` of a colon table read from /``name``."""
    if isinstance(text, Unknown):
        return text
    words = read_colon_table(text.value).get(key, "").split()
    if not words or not words[0].isdecimal():
        return Unknown(reason=f"/{name}: no line {key}")
    return Known(value=int(words[0]) * 1024)


def list_names(root: Path, name: str) -> Reading[tuple[str, ...]]:
    """Return the sorted entries of the folder ``root/name``, or why it cannot be listed."""
    try:
        return Known(value=tuple(sorted(entry.name for entry in (root / name).iterdir())))
    except OSError as error:
        return explain_os_error(error, f"/{name}")
