"""Claims that no experiment of a plan can test, found before hours of measuring."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdbench.plan.manifest_file import show
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Claim, Selector


def find_unmet_claims(claims: Sequence[Claim], experiments: Sequence[Experiment]) -> tuple[str, ...]:
    """Return a line for each claim that misses an experiment: ``claim c: no experiment has steps=25``."""
    lines = []
    for claim in claims:
        problem = _find_problem(claim.numerator, experiments)
        if problem is None and claim.denominator is not None:
            problem = _find_problem(claim.denominator, experiments)
        if problem is not None:
            lines.append(f"claim {claim.id}: {problem}")
    return tuple(lines)


def _find_problem(selector: Selector, experiments: Sequence[Experiment]) -> str | None:
    options = selector.options.values
    matching = [experiment for experiment in experiments if experiment.has(options)]
    if not matching:
        return f"no experiment has {' and '.join(_find_missing(options, experiments))}"
    steps = {step for experiment in matching if experiment.workload == "precision" for step in experiment.sweep_steps}
    if selector.at_steps is not None and selector.at_steps not in steps:
        return f"no experiment of workload precision runs {selector.at_steps} steps"
    return None


def _find_missing(options: Mapping[str, Any], experiments: Sequence[Experiment]) -> Iterator[str]:
    """Yield the options that no experiment has, or else all of them, which none has together."""
    alone = {name for name, value in options.items() if not any(item.has({name: value}) for item in experiments)}
    yield from (f"{name}={show(value).strip(chr(34))}" for name, value in options.items() if name in (alone or options))
