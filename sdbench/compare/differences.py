"""What differs between two fingerprints, field by field, the likeliest reason for a change first."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from sdbench.probes.readings import value_or
from sdbench.schema.base import Known, Model, Unknown
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.operators import RAN
from sdbench.schema.outcome import Launch, launches_of
from sdbench.schema.record import Record, Result

Part = Literal["hardware", "configuration", "software", "state", "protocol"]
# The parts of a fingerprint. The protocol is how it was measured.
PARTS: tuple[Part, ...] = ("hardware", "configuration", "software", "state")

# Fields by how likely a difference changes the latency, the likeliest first. Fields not named here come after all of
# these; state comes last, because it changes from minute to minute.
_LIKELIEST = (
    r"hardware\.gpus\.\d+\.(name|mig_profile|memory_total_bytes|multiprocessor_count)",
    r"hardware\.cpu_model",
    r"software\.gpu_kernel_driver",
    r"software\.gpu_libcuda",
    r"software\.packages\.(torch|onnxruntime(-gpu)?|xformers|triton|flash-attn)",
    r"software\.torch_cuda",
    r"software\.cudnn",
    r"configuration\.gpus\.\d+\.(power_limit_w|mig_mode|ecc_enabled|clock_max_sm_mhz)",
    r"configuration\.(affinity_cpu_count|cgroup_cpu_limit|cpu_governor|cpu_boost|smt)",
    r"software\.environment\..*",
    r"software\.packages\.(nvidia-.*|diffusers|transformers|tensorrt.*)",
    r"hardware\..*",
    r"software\.(kernel|libc|image_id|image_digest)",
    r"configuration\..*",
    r"software\.packages\..*",
    r"software\.sdbench_.*",
    r"software\..*",
    r"state\..*",
)
# These change with the driver's version, and are no other suspect.
OF_THE_DRIVER = re.compile(
    r"software\.(gpu_kernel_driver|gpu_libcuda|gpu_libcuda_found(\.\d+)?|gpu_driver_cuda|loaded_libraries\.libcuda)"
)
_DRIVER = "software.gpu_kernel_driver"
_CEILINGS = "state.ceilings"
_RAN = "ran."
_NAMES_SHOWN = 3
_DIGITS_SHOWN = 12


class Difference(Model):
    """A field that is not the same in both; None is unknown there, and ``why`` is the reason."""

    field: str
    part: Part
    baseline: str | None
    candidate: str | None
    why: str

    @property
    def is_known(self) -> bool:
        """Whether both values are known, and so are known to differ."""
        return self.baseline is not None and self.candidate is not None


@dataclass(frozen=True)
class FingerprintDiff:
    """Every field that differs or is known in one fingerprint only, the likeliest reason for a change first.

    ``unknown_count`` fields of hardware, configuration and software are unknown in both: no evidence at all.
    """

    differences: tuple[Difference, ...]
    unknown_count: int

    @property
    def attribution(self) -> str:
        """What a change can be attributed to, in words: one thing, several, or nothing that was read."""
        known = [item for item in self.differences if item.part != "state"]
        # What ran follows from what was installed: where that differs, it is no suspect of its own.
        suspects = [item for item in known if not item.field.startswith(_RAN)] or known
        differing = [item for item in suspects if item.is_known]
        uncompared = len(suspects) - len(differing) + self.unknown_count
        rest = f"; {uncompared} fields could not be compared" if uncompared else ""
        others = [item for item in differing if not OF_THE_DRIVER.fullmatch(item.field)]
        driver = next((item for item in differing if item.field == _DRIVER), None)
        if not differing:
            return f"no known difference of machine and software{rest}"
        if driver is not None and not others:
            return f"only the driver differs ({driver.baseline} and {driver.candidate}){rest}"
        if driver is not None:
            names = ", ".join(item.field for item in others[:_NAMES_SHOWN])
            more = ", ..." if len(others) > _NAMES_SHOWN else ""
            return f"the driver cannot be blamed: {len(others)} more fields differ ({names}{more}){rest}"
        if len(differing) == 1:
            return f"only {differing[0].field} differs ({differing[0].baseline} and {differing[0].candidate}){rest}"
        return f"{len(differing)} fields differ, first of all {differing[0].field}{rest}"


def compare_fingerprints(baseline: Fingerprint, candidate: Fingerprint) -> FingerprintDiff:
    """Return what differs between two fingerprints."""
    # What the machine reaches is compared with its own noise: see machine_ceilings.
    old, new = (
        {name: value for name, value in flatten(one).items() if not name.startswith(_CEILINGS)}
        for one in (baseline, candidate)
    )
    differences, unknown_count = [], 0
    for name in {**old, **new}:
        part = next(part for part in PARTS if name.startswith(part))
        values = [_value_of(name, leaves) for leaves in (old, new)]
        reasons = [value.reason for value in values if isinstance(value, Unknown)]
        if len(reasons) == len(values):
            unknown_count += part != "state"
        elif values[0] != values[1]:
            first, second = (None if isinstance(value, Unknown) else str(value) for value in values)
            differences.append(
                Difference(field=name, part=part, baseline=first, candidate=second, why="".join(reasons))
            )
    differences.sort(key=lambda item: (rank_field(item.field), not item.is_known, item.field))
    return FingerprintDiff(tuple(differences), unknown_count)


def compare_protocols(baseline: Sequence[Record], candidate: Sequence[Record]) -> tuple[Difference, ...]:
    """Return what differs in how two sets of records were measured: the isolation of launches, and the token ids."""
    read = {"isolation": lambda launch: launch.isolation, "token_ids": _describe_tokens}
    return tuple(
        Difference(field=f"protocol.{name}", part="protocol", baseline=first, candidate=second, why="")
        for name, words in read.items()
        for first, second in [[_join_words(records, words) for records in (baseline, candidate)]]
        if first != second and first and second
    )


def compare_libraries(baseline: Sequence[Record], candidate: Sequence[Record]) -> tuple[Difference, ...]:
    """Return which libraries' files the workers had loaded differ: what was installed need not be what was loaded."""
    old, new = _libraries(baseline), _libraries(candidate)
    return tuple(
        Difference(field=f"software.loaded_libraries.{name}", part="software", baseline=first, candidate=second, why="")
        for name in sorted(old | new)
        if old and new and (first := old.get(name, "none")) != (second := new.get(name, "none"))
    )


def compare_ran(pairs: Iterable[tuple[Iterable[Result], Iterable[Result]]]) -> tuple[Difference, ...]:
    """Return what ran differently in the same experiments: the kind of attention, the libraries, the precision."""
    old: dict[str, set[str]] = {}
    new: dict[str, set[str]] = {}
    for baseline, candidate in pairs:
        first, second = _ran(baseline), _ran(candidate)
        for name in first.keys() & second.keys():
            if first[name] != second[name]:
                old.setdefault(name, set()).update(first[name])
                new.setdefault(name, set()).update(second[name])
    return tuple(
        Difference(
            field=f"{_RAN}{name}",
            part="software",
            baseline=" or ".join(sorted(old[name])),
            candidate=" or ".join(sorted(new[name])),
            why="",
        )
        for name in RAN
        if name in old
    )


def _ran(results: Iterable[Result]) -> dict[str, set[str]]:
    ran: dict[str, set[str]] = {}
    for launch in (launch for result in results for launch in launches_of(result.outcome)):
        if isinstance(launch.operators, Known):
            for name, value in launch.operators.value.ran.items():
                ran.setdefault(name, set()).add(value)
    return ran


def describe_libraries(launches: Iterable[Launch]) -> dict[str, str]:
    """Return the files of each library by name and hash, whatever folder they are in."""
    files: dict[str, set[str]] = {}
    for launch in launches:
        for library in value_or(launch.environment.loaded_libraries, ()):
            digest = value_or(library.sha256, "unknown")[:_DIGITS_SHOWN]
            files.setdefault(library.name, set()).add(f"{Path(library.path).name} ({digest})")
    return {name: ", ".join(sorted(texts)) for name, texts in files.items()}


def _libraries(records: Sequence[Record]) -> dict[str, str]:
    return describe_libraries(
        launch for record in records for result in record.results for launch in launches_of(result.outcome)
    )


def _join_words(records: Sequence[Record], words: Callable[[Launch], str]) -> str:
    results = (result for record in records for result in record.results)
    return " and ".join(sorted({words(launch) for result in results for launch in launches_of(result.outcome)}))


def _describe_tokens(launch: Launch) -> str:
    """Whether a prompt's ids were drawn; a text encoder that pads takes as long for any."""
    drawn = launch.environment.drawn_tokens
    return f"drawn for {', '.join(sorted(drawn))}" if drawn else "of the prompt"


def flatten(fingerprint: Fingerprint) -> dict[str, Any]:
    """Return every value by its dotted name, ``Unknown`` if it could not be read; packages go by their names."""
    return dict(chain.from_iterable(_leaves(part, getattr(fingerprint, part).to_json_dict()) for part in PARTS))


def _value_of(name: str, leaves: dict[str, Any]) -> Any:
    """A field's value; of one missing from a list or set: unknown where all of it is unknown, else "none"."""
    if name in leaves:
        return leaves[name]
    while "." in name:
        name = name.rpartition(".")[0]
        if isinstance(leaves.get(name), Unknown):
            return leaves[name]
    return "none"


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value below ``value`` with its dotted name; packages and variables go by their names."""
    if isinstance(value, dict) and "status" in value:
        if value["status"] == "unknown":
            yield name, Unknown(reason=value["reason"])
        else:
            yield from _leaves(name, value["value"])
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            others = [key for key in item if key != "name"]
            named = "name" in item and len(others) == 1
            yield from _leaves(f"{name}.{item['name'] if named else index}", item[others[0]] if named else item)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "none"
    else:
        yield name, value


def rank_field(field: str) -> int:
    """Return the rank of a field among the causes of a difference, 0 for the likeliest."""
    return next((rank for rank, pattern in enumerate(_LIKELIEST) if re.fullmatch(pattern, field)), len(_LIKELIEST))
