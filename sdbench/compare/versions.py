"""The versions of a fingerprint field: which one a short name means, their order, and what changed along with them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain

from sdbench.compare.differences import OF_THE_DRIVER, Difference, Part, compare_libraries, flatten, rank_field
from sdbench.errors import UserError
from sdbench.schema.base import Unknown
from sdbench.schema.record import Record

Leaves = Mapping[str, object]
DRIVER = "software.gpu_kernel_driver"
_FIELDS_NAMED = 3
_DOTTED = re.compile(r"[0-9]+\.[0-9]")
# Short names of fields.
_ALIASES = {
    "driver": DRIVER,
    "nvidia_driver": DRIVER,
    "cuda": "software.torch_cuda",
    "image": "software.image_id",
    "sdbench": "software.sdbench_commit",
}


def sort_by_version(records: Sequence[Record], by: str) -> tuple[str, dict[str, list[Record]]]:
    """Return the field that ``by`` means, and the records by its versions, the lowest first.

    Raises:
        UserError: the field is unknown, or has fewer than two versions.
    """
    leaves = [flatten(record.fingerprint) for record in records]
    names = sorted(set(chain(*leaves)))
    field = _field_meant(by, names)
    if field not in names:
        close = get_close_matches(by, [*names, *_ALIASES], n=3, cutoff=0.4)
        nearest = " or ".join(close) or "driver"
        raise UserError(f"--by {by!r} is not a field of these fingerprints; did you mean {nearest}?")
    sorted_records: dict[str, list[Record]] = {}
    for record, leaf in zip(records, leaves, strict=True):
        value = leaf.get(field)
        if value is not None and not isinstance(value, Unknown):
            sorted_records.setdefault(str(value), []).append(record)
    if len(sorted_records) < 2:  # noqa: PLR2004 - one version has no trend
        known = f"only version {next(iter(sorted_records))}" if sorted_records else "no known version"
        others = sorted((name for name in names if name.startswith("software.")), key=rank_field)
        followed = [name for name in others if len(_known_values(name, leaves)) > 1][:_FIELDS_NAMED]
        hint = f"try --by {', '.join(followed)}" if followed else "name runs of two or more versions"
        raise UserError(f"--by {field}: these runs have {known}; {hint}")
    if all(map(_DOTTED.match, sorted_records)):
        return field, dict(sorted(sorted_records.items(), key=lambda item: _version_key(item[0])))
    # Image ids and commits have no order of their own.
    return field, dict(sorted(sorted_records.items(), key=lambda item: min(record.created_utc for record in item[1])))


def count_versions(records: Sequence[Record], by: str) -> int:
    """Return how many known versions of a fingerprint field records have; 0 where it is not a field of theirs."""
    leaves = [flatten(record.fingerprint) for record in records]
    return len(_known_values(_field_meant(by, set(chain(*leaves))), leaves))


def version_of(record: Record, by: str) -> str | None:
    """Return a record's version of a fingerprint field; None where it is not known."""
    leaves = flatten(record.fingerprint)
    value = leaves.get(_field_meant(by, leaves))
    return None if value is None or isinstance(value, Unknown) else str(value)


def find_companions(records: Sequence[Record], field: str) -> tuple[str, ...]:
    """Return the other fields of configuration and software that are not the same in all runs."""
    leaves = [flatten(record.fingerprint) for record in records]
    ignored = OF_THE_DRIVER if field == DRIVER else re.compile(re.escape(field))
    names = dict.fromkeys(chain(*leaves))
    considered = (name for name in names if name.startswith(("configuration.", "software.")))
    return tuple(name for name in considered if not ignored.fullmatch(name) and _differs(name, leaves))


def find_changes(before: Sequence[Record], after: Sequence[Record], field: str) -> tuple[Difference, ...]:
    """Return what else changed from some runs to later ones, the likeliest reason for a change of latency first.

    A field changed where no value of the runs before is one of those after; ``field`` itself is left out, and what
    changes with a driver. What is unknown anywhere is not known to have changed.
    """
    ignored = OF_THE_DRIVER if field == DRIVER else re.compile(re.escape(field))
    leaves = [[flatten(record.fingerprint) for record in records] for records in (before, after)]
    changes = [
        item
        for item in (*compare_libraries(before, after), *_compare_leaves(*leaves))
        if not ignored.fullmatch(item.field)
    ]
    return tuple(sorted(changes, key=lambda item: (rank_field(item.field), item.field)))


def _compare_leaves(before: Sequence[Leaves], after: Sequence[Leaves]) -> Iterator[Difference]:
    names = dict.fromkeys(chain(*before, *after))
    parts: tuple[Part, ...] = ("configuration", "software")
    for name in names:
        part = next((part for part in parts if name.startswith(f"{part}.")), None)
        values = [[leaf.get(name, "none") for leaf in leaves] for leaves in (before, after)]
        if part is None or any(isinstance(value, Unknown) for value in chain(*values)):
            continue
        old, new = (sorted(set(map(str, group))) for group in values)
        if not set(old) & set(new):
            first, second = " or ".join(old), " or ".join(new)
            yield Difference(field=name, part=part, baseline=first, candidate=second, why="")


def _differs(name: str, leaves: Sequence[Mapping[str, object]]) -> bool:
    """Whether a field, or that there is none, is not the same in all runs; what is unknown is not known to differ."""
    values = [leaf.get(name) for leaf in leaves]
    return len(set(map(str, values))) > 1 and not any(isinstance(value, Unknown) for value in values)


def _known_values(name: str, leaves: Sequence[Mapping[str, object]]) -> set[str]:
    values = (leaf.get(name) for leaf in leaves)
    return {str(value) for value in values if value is not None and not isinstance(value, Unknown)}


def _field_meant(by: str, names: Collection[str]) -> str:
    short = by.removeprefix("software.")
    field = _ALIASES.get(short, by)
    return f"software.packages.{short}" if field not in names and f"software.packages.{short}" in names else field


def _version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers as numbers, so that 9.1 comes before 10.0: the more digits, the larger."""
    parts = [part.lstrip("0") if part.isdecimal() else part for part in re.findall(r"[0-9]+|[^0-9.]+", version)]
    return tuple((0, len(part), part) if part.isdecimal() or not part else (1, 0, part) for part in parts)
