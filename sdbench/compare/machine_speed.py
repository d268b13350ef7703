"""Whether the machine itself kept its speed over the launches of a result, by their reference operation."""

from collections.abc import Sequence
from math import exp, fsum, log, log1p, pi, sqrt
from statistics import median

from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Launch
from sdbench.schema.reference_operation import ReferenceOperation

# One of 8 launches, the usual minimum, that is this far off moves their mean by half the margin of 2 %.
SPEED_MAX = 0.08
_LAUNCHES_FOR_SPEED = 3
# How many standard errors of a launch's own samples the deviation must exceed too.
_SPEED_ERRORS = 3
# Standard error of the median of normal values over that of their mean.
_MEDIAN_ERROR = sqrt(pi / 2)


def check_speed(launches: Sequence[Launch]) -> tuple[bool | None, str]:
    """Return whether the machine kept its speed over launches, None where that is unknown, and the evidence."""
    readings = [(launch.index + 1, launch.reference_operation) for launch in launches]
    operations = {number: reading.value for number, reading in readings if isinstance(reading, Known)}
    if len(operations) < _LAUNCHES_FOR_SPEED:
        unknown = [reading for _, reading in readings if isinstance(reading, Unknown)]
        return None, unknown[0].reason if unknown else f"fewer than {_LAUNCHES_FOR_SPEED} launches"
    usual = median(log(operation.typical_s) for operation in operations.values())
    changes = {number: log(operation.typical_s) - usual for number, operation in operations.items()}
    off = {number: change for number, change in changes.items() if abs(change) > _speed_limit(operations[number])}
    if not off:
        largest = max(changes.values(), key=abs)
        return True, f"the reference operation was at most {abs(exp(largest) - 1):.1%} off its median over the launches"
    groups = {"slower": [n for n in off if off[n] > 0], "faster": [n for n in off if off[n] < 0]}
    return False, "; ".join(
        f"the machine itself was up to {max(abs(exp(off[number]) - 1) for number in numbers):.0%} {direction} during "
        f"launch{'es' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        for direction, numbers in groups.items()
        if numbers
    )


def _speed_limit(operation: ReferenceOperation) -> float:
    """How far (log ratio) the time of a reference operation may be off: beyond what its own samples explain."""
    parts = (operation.before_s, operation.after_s)
    squares = fsum(log(sample_s / median(part)) ** 2 for part in parts for sample_s in part)
    count = sum(map(len, parts))
    error = _MEDIAN_ERROR * sqrt(squares / max(1, count - len(parts)) / count)
    return max(log1p(SPEED_MAX), _SPEED_ERRORS * error)
