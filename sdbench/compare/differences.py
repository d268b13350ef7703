"""What differs between two fingerprints, part by part and field by field, the likeliest reason first."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sdbench.schema.base import Model
from sdbench.schema.fingerprint import Fingerprint

Part = Literal["hardware", "configuration", "software", "state"]
PARTS: tuple[Part, ...] = ("hardware", "configuration", "software", "state")

# How likely a difference moves a latency, the likeliest first. What is not named comes after all of these; state comes
# last, because it changes from minute to minute.
_LIKELIEST = (
    r"hardware\.gpus\.\d+\.(name|memory_total_bytes|multiprocessor_count)",
    r"hardware\.cpu_model",
    r"software\.gpu_kernel_driver",
    r"software\.gpu_libcuda",
    r"software\.packages\.(torch|onnxruntime(-gpu)?|xformers|triton|flash-attn)",
    r"software\.torch_cuda",
    r"software\.cudnn",
    r"configuration\.gpus\.\d+\.(power_limit_w|application_clock_sm_mhz|mig_mode|ecc_enabled|clock_max_sm_mhz)",
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
_RANKS = tuple(re.compile(pattern) for pattern in _LIKELIEST)
# These change with the driver's version, so they do not make a second suspect beside it.
OF_THE_DRIVER = re.compile(r"software\.(gpu_kernel_driver|gpu_libcuda|gpu_libcuda_found(\.\d+)?|gpu_driver_cuda)")
_DRIVER = "software.gpu_kernel_driver"


class Difference(Model):
    """A field that is not the same on both sides; None on a side is unknown there, and ``why`` says why."""

    field: str
    part: Part
    baseline: str | None
    candidate: str | None
    why: str

    @property
    def is_known(self) -> bool:
        """Whether both sides are known, and so are known to differ."""
        return self.baseline is not None and self.candidate is not None


def find_differences(baseline: Fingerprint, candidate: Fingerprint) -> tuple[Difference, ...]:
    """Return every field that differs or is known on one side only, the likeliest reason for a change first."""
    found = [difference for part in PARTS for difference in _differences_of(part, baseline, candidate)]
    return tuple(sorted(found, key=lambda item: (_rank(item.field), not item.is_known, item.field)))


def flatten(fingerprint: Fingerprint) -> dict[str, Any]:
    """Return every value of a fingerprint by its dotted name; packages and variables go by their names."""
    leaves = (_leaves(part, getattr(fingerprint, part).to_json_dict()) for part in PARTS)
    return {name: value for part in leaves for name, value in part}


def is_missing(value: Any) -> bool:
    """Return whether a value of ``flatten`` could not be read."""
    return isinstance(value, _Missing)


def count_unknown_on_both(baseline: Fingerprint, candidate: Fingerprint) -> int:
    """Return how many fields of hardware, configuration and software are unknown on both sides: no evidence at all."""
    return sum(
        isinstance(first, _Missing) and isinstance(second, _Missing)
        for part in PARTS[:-1]
        for _, first, second in _pairs(part, baseline, candidate)
    )


def attribute(differences: Sequence[Difference], unknown_count: int) -> str:
    """Return what a change can be blamed on, in words: one thing, several, or nothing that was seen."""
    suspects = [item for item in differences if item.part != "state"]
    unsure = [item for item in suspects if not item.is_known]
    differing = [item for item in suspects if item.is_known]
    doubt = len(unsure) + unknown_count
    rest = f"; {doubt} fields could not be compared" if doubt else ""
    others = [item for item in differing if not OF_THE_DRIVER.fullmatch(item.field)]
    driver = next((item for item in differing if item.field == _DRIVER), None)
    if not differing:
        return f"nothing that was read differs{rest}"
    if driver is not None and not others:
        return f"only the driver differs ({driver.baseline} and {driver.candidate}){rest}"
    if driver is not None:
        names = ", ".join(item.field for item in others[:3]) + (", ..." if len(others) > 3 else "")  # noqa: PLR2004
        return f"the driver cannot be blamed: {len(others)} more fields differ ({names}){rest}"
    if len(differing) == 1:
        return f"only {differing[0].field} differs ({differing[0].baseline} and {differing[0].candidate}){rest}"
    return f"{len(differing)} fields differ, first of all {differing[0].field}{rest}"


@dataclass(frozen=True)
class _Missing:
    """A value that is not there, and why."""

    reason: str


def _differences_of(part: Part, baseline: Fingerprint, candidate: Fingerprint) -> Iterator[Difference]:
    for name, first, second in _pairs(part, baseline, candidate):
        both_missing = isinstance(first, _Missing) and isinstance(second, _Missing)
        if not both_missing and (isinstance(first, _Missing) or isinstance(second, _Missing) or first != second):
            yield Difference(
                field=name,
                part=part,
                baseline=None if isinstance(first, _Missing) else str(first),
                candidate=None if isinstance(second, _Missing) else str(second),
                why=next((side.reason for side in (first, second) if isinstance(side, _Missing)), ""),
            )


def _pairs(part: Part, baseline: Fingerprint, candidate: Fingerprint) -> Iterator[tuple[str, Any, Any]]:
    sides = [dict(_leaves(part, getattr(side, part).to_json_dict())) for side in (baseline, candidate)]
    for name in dict.fromkeys((*sides[0], *sides[1])):
        # A list or a set of variables that is shorter on one side: the other one simply does not have it.
        absent = [_missing_above(name, side) for side in sides]
        yield name, sides[0].get(name, absent[0]), sides[1].get(name, absent[1])


def _missing_above(name: str, side: dict[str, Any]) -> Any:
    """What stands for a field that a side does not have: unknown where what holds it is unknown, else "none"."""
    while "." in name:
        name = name.rpartition(".")[0]
        if isinstance(side.get(name), _Missing):
            return side[name]
    return "none"


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value below ``value`` with its dotted name; packages and variables go by their names."""
    if isinstance(value, dict) and "status" in value:
        if value["status"] == "unknown":
            yield name, _Missing(value["reason"])
        else:
            yield from _leaves(name, value["value"])
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and "name" in value[0] and len(value[0]) == 2:  # noqa: PLR2004
        for item in value:
            (other,) = (key for key in item if key != "name")
            yield from _leaves(f"{name}.{item['name']}", item[other])
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from _leaves(f"{name}.{index}", item)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "none"
    else:
        yield name, value


def _rank(field: str) -> int:
    return next((rank for rank, pattern in enumerate(_RANKS) if pattern.fullmatch(field)), len(_RANKS))
