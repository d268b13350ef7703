"""The words of a reason: what changed in a row, which families a difference is of, and the sentence."""

from collections.abc import Sequence

from sdbench.compare.cycles import explain_cycles
from sdbench.compare.operator_rows import SplitRow
from sdbench.compare.policy import Judgement
from sdbench.compare.projection import ENCODERS
from sdbench.schema.operators import OUTSIDE
from sdbench.units import format_count, format_duration

_PHASES = ENCODERS | {"denoise_step": "denoising steps", "vae_decode": "VAE decode", "rest": "rest"}
OUTSIDE_WORDS = "outside operators: Python, dispatch or waiting"
# Clocks that differ by less are equal.
_CLOCKS_EQUAL_RATIO = 0.005
_TIMES_FROM = 10.0


def name_phase(phase: str) -> str:
    """Return the title of a phase."""
    return _PHASES.get(phase, phase)


def describe_call_counts(row: SplitRow) -> str:
    """Return how often a row ran: ``32``, or ``32 → 64`` where that changed; "" for what is no operator."""
    before, after = (count or 0 for count in row.calls)
    if not before and not after:
        return ""
    return f"{before}" if before == after else f"{before} → {after}"


def describe_change(row: SplitRow) -> str:
    """Return what became of a row: replaced, called more or less often, of other shapes, or longer as it was."""
    before, after = row.calls
    gone, _, new = row.name.partition(" → ")
    if new:
        return f"{_count_calls(before)} of {gone} became {after} of {new}"
    if after is None:
        return f"{_count_calls(before)} of {row.name} are gone"
    if before is None:
        return f"{_count_calls(after)} of {row.name} are new"
    where = f"{row.name} in {name_phase(row.phase)}"
    if before != after:
        return f"{where} was called {after} times instead of {before}"
    took = f"took {format_duration(row.seconds[1])} instead of {format_duration(row.seconds[0])}"
    if None not in row.shapes and row.shapes[0] != row.shapes[1]:
        return f"{where} {took}, with inputs of other shapes"
    return f"{where} {took} in {_count_calls(after)}, as many as before" if after else f"{where} {took}"


def name_parts(parts: Sequence[tuple[str, float]]) -> str:
    """Return families with their shares of a difference: ``91 % of it is attention``, ``52 % of it is A, 31 % B``."""
    words = [f"{share:.0%}".replace("%", " %") for _, share in parts]
    names = [OUTSIDE_WORDS if name == OUTSIDE else name for name, _ in parts]
    first, *others = zip(words, names, strict=True)
    return ", ".join([f"{first[0]} of it is {first[1]}", *(f"{share} {name}" for share, name in others)])


def make_sentence(judgement: Judgement, words: str) -> str:
    """Return ``+8.1 % [+7.2, +9.0]: 91 % of it is attention; clocks equal``."""
    ratio = judgement.ratio or 1.0
    interval = ""
    if judgement.low is not None and judgement.high is not None:
        interval = f" [{_format_end(judgement.low)}, {_format_end(judgement.high)}]"
    unit = "" if ratio >= _TIMES_FROM else " %"
    clocks = describe_clocks(judgement)
    return f"{_format_end(ratio)}{unit}{interval}: {words}" + (f"; {clocks}" if clocks else "")


def describe_clocks(judgement: Judgement) -> str:
    """Return whether the clock has a part in a change; "" where it is unknown."""
    if judgement.cycles is None:
        return ""
    if text := explain_cycles(judgement):
        return text
    change = judgement.cycles.clocks_mhz[1] / judgement.cycles.clocks_mhz[0] - 1
    return "clocks equal" if abs(change) <= _CLOCKS_EQUAL_RATIO else f"the clock differs by {100 * change:+.1f} %"


def _format_end(ratio: float) -> str:
    return f"{ratio:.3g} times" if ratio >= _TIMES_FROM else f"{100 * (ratio - 1):+.1f}"


def _count_calls(count: int | None) -> str:
    return format_count(count or 0, "call")
