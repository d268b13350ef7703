"""Lock files of packages, in pip's format with ``==``, and the order in which one becomes the other step by step."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sdbench.errors import UserError

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*==\s*(?P<version>[^\s;#*,]+)\s*(?P<rest>[;\s].*)?"
)
# What pip has no word for: a package of the running environment that this one has not.
_WITHOUT = re.compile(r"#\s*without:\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)")
_OPTIONS = (
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--trusted-host",
    "--pre",
    "--only-binary",
    "-i ",
    "-f ",
)
_LOCK_BYTES_MAX = 2**22


@dataclass(frozen=True)
class Lock:
    """The lines of a lock file: pip's options, the pinned packages by name, and the names of those to remove."""

    options: tuple[str, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The packages that the lock says something of."""
        return tuple(sorted({*self.pins, *self.without}))


@dataclass(frozen=True)
class Installed:
    """A package of an environment: its version, and what it requires, as its metadata has it."""

    version: str
    requires: tuple[str, ...]


def read_lock(path: Path) -> Lock:
    """Return what a lock file pins.

    Raises:
        UserError: it cannot be read, or a line is neither an option nor NAME==VERSION.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= _LOCK_BYTES_MAX else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the lock file {path}: {error}; name a file that pip freeze wrote") from None
    options: list[str] = []
    pins: dict[str, str] = {}
    without: set[str] = set()
    for number, line in _joined_lines(text):
        if match := _WITHOUT.fullmatch(line):
            without.add(canonicalize_name(match["name"]))
            continue
        content = re.sub(r"(^|\s)#.*", "", line).strip()
        if match := _PIN.fullmatch(content):
            pins[canonicalize_name(match["name"])] = content
        elif content.startswith(_OPTIONS):
            options.append(content)
        elif content:
            raise UserError(
                f"{path}:{number}: {content[:80]!r} pins no package; expected NAME==VERSION, as of pip freeze"
            )
    if not pins and not without:
        raise UserError(f"{path} pins no package; expected lines NAME==VERSION, as of pip freeze")
    return Lock(tuple(options), pins, frozenset(without))


def _joined_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with those that a backslash continues, by the number of the first one."""
    parts: list[str] = []
    first = 1
    for number, line in enumerate(text.splitlines(), start=1):
        first = first if parts else number
        parts.append(line.rstrip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            yield first, " ".join(parts).strip()
            parts = []
    if parts:
        yield first, " ".join(parts).strip()


def format_lock(lock: Lock) -> str:
    """Return a lock as the text of a file."""
    lines = (
        *(f"# without: {name}" for name in sorted(lock.without)),
        *lock.options,
        *map(lock.pins.get, sorted(lock.pins)),
    )
    return "".join(f"{line}\n" for line in lines)


def changed_names(good: Lock, bad: Lock) -> tuple[str, ...]:
    """Return the packages that are not pinned to the same in both, sorted."""
    names = sorted({*good.pins, *bad.pins})
    return tuple(name for name in names if pinned_version(good, name) != pinned_version(bad, name))


def pinned_version(lock: Lock, name: str) -> str:
    """Return the version that a lock pins a package to, "none" for one that it does not name."""
    match = _PIN.fullmatch(lock.pins.get(name, ""))
    return match["version"] if match else "none"


def mix_locks(good: Lock, bad: Lock, of_bad: frozenset[str]) -> Lock:
    """Return the good lock with some packages as the bad one has them; one that neither has there is removed."""
    names = {*good.pins, *bad.pins}
    source = {name: bad if name in of_bad else good for name in names}
    return Lock(
        options=tuple(dict.fromkeys((*good.options, *bad.options))),
        pins={name: lock.pins[name] for name, lock in source.items() if name in lock.pins},
        without=frozenset(name for name, lock in source.items() if name not in lock.pins),
    )


def order_steps(
    changed: Sequence[str], old: Mapping[str, Installed], new: Mapping[str, Installed]
) -> tuple[tuple[str, ...], ...]:
    """Return the changed packages in steps, each with what must change together with it; the smallest steps first.

    ``old`` and ``new`` are all packages of the environments before and after.
    """
    steps: list[tuple[str, ...]] = []
    done: frozenset[str] = frozenset()
    while remaining := [name for name in changed if name not in done]:
        units = [tuple(sorted(_close(done | {name}, changed, old, new) - done)) for name in remaining]
        step = min(units, key=lambda unit: (len(unit), unit))
        steps.append(step)
        done |= set(step)
    return tuple(steps)


def _close(
    state: frozenset[str], changed: Sequence[str], old: Mapping[str, Installed], new: Mapping[str, Installed]
) -> frozenset[str]:
    """The changed packages that must be as in ``new`` where those of ``state`` are."""
    while True:
        mixed = {name: (new if name in state else old).get(name) for name in {*old, *new}}
        if all(mixed[name] == (new if name in changed else old).get(name) for name in changed):
            return state
        added = next((name for name in _broken(mixed) if name in changed and name not in state), None)
        if added is None:
            return state
        state |= {added}


def _broken(packages: Mapping[str, Installed | None]) -> Iterator[str]:
    """Yield the packages of each requirement that does not hold: the required one, then the one that requires it."""
    for name, installed in packages.items():
        for text in installed.requires if installed else ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            required = canonicalize_name(requirement.name)
            present = packages.get(required)
            if present is None or not requirement.specifier.contains(present.version, prereleases=True):
                yield from (required, name)
