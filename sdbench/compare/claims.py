"""A source's claims checked against measured records: a verdict with the value and its interval."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import inf
from typing import Literal

from sdbench.compare.claim_values import NotTested, Values, read_values
from sdbench.compare.comparability import Measured
from sdbench.schema.base import Model
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Claim, Interval, Metric, Selector
from sdbench.schema.metrics import batch_of
from sdbench.schema.record import Record
from sdbench.stats.intervals import Estimate, estimate_ratio, estimate_values

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not tested"]

NO_SAMPLES = "reference result without samples"
# The workloads that measure a metric, where a selector does not name one.
_WORKLOADS: dict[str, frozenset[str]] = {
    "largest_batch": frozenset({"largest-batch"}),
    "dissimilarity": frozenset({"precision"}),
}
_TIMED = frozenset({"latency"})
_KINDS = {"cpu": "CPUs", "cuda": "CUDA GPUs"}
# Options that "at its largest batch" allows to differ.
_BATCH_OPTIONS = frozenset({"batch", "workload", "batch_max", "memory_limit_bytes"})
_AT_LEAST = "the search stopped at batch_max: it may be more"
_LABELS_SHOWN = 3
# Words that name another card with the same number.
_OTHER_CARD = frozenset({"ti", "super", "laptop", "mobile", "max", "d"})


class Score(Model):
    """One claim on one machine (or pair of machines): the verdict, the value with its interval, and why."""

    claim: Claim
    machine: str
    verdict: Verdict
    value: float | None
    low: float | None
    high: float | None
    why: str


def score_claims(claims: Sequence[Claim], records: Sequence[Record]) -> tuple[Score, ...]:
    """Return a score for every claim on every machine, in the order of the claims."""
    return tuple(score for claim in claims for score in _score(claim, records))


def score_own_claims(records: Sequence[Record]) -> tuple[Score, ...]:
    """Return the scores of the claims in the records' manifests, each record by its own claim of an id."""
    scores: list[Score] = []
    for claim in claims_of(records):
        others = [{own.id for own in record.manifest.claims if own != claim} for record in records]
        scores += _score(claim, [record for record, ids in zip(records, others, strict=True) if claim.id not in ids])
    return tuple(scores)


def join_untested(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Return the scores, with the machines on which a claim was not tested for the same reason joined into one."""
    joined: dict[tuple[str, str, str], Score] = {}
    for position, score in enumerate(scores):
        key = (score.claim.id, score.why, "" if score.value is None else str(position))
        machine = f"{joined[key].machine}; {score.machine}" if key in joined else score.machine
        joined[key] = score.model_copy(update={"machine": machine})
    return tuple(joined.values())


def judge(estimate: Estimate, expected: Interval) -> tuple[Verdict, str]:
    """Return the verdict on an interval: wholly inside is reproduced, wholly outside is not, else inconclusive."""
    if estimate.low is None or estimate.high is None:
        return "inconclusive", "one launch has no interval"
    floor = -inf if expected.low is None else expected.low
    ceiling = inf if expected.high is None else expected.high
    if floor <= estimate.low and estimate.high <= ceiling:
        return "reproduced", ""
    if estimate.high < floor or estimate.low > ceiling:
        return "not reproduced", ""
    return "inconclusive", "the interval lies partly inside the expected range"


def claims_of(records: Sequence[Record]) -> tuple[Claim, ...]:
    """Return the claims in the records' manifests, each once."""
    claims: list[Claim] = []
    for record in records:
        claims += [claim for claim in record.manifest.claims if claim not in claims]
    return tuple(claims)


def _score(claim: Claim, records: Sequence[Record]) -> Iterator[Score]:
    for chosen in _choose_records(claim, records):
        machine = " against ".join(dict.fromkeys(record.device_name for record in chosen)) or "none of these"
        try:
            for record in chosen:
                _check_scope(claim, record)
            yield _evaluate(claim, machine, chosen)
        except NotTested as reason:
            yield Score(
                claim=claim, machine=machine, verdict="not tested", value=None, low=None, high=None, why=str(reason)
            )


def _check_scope(claim: Claim, record: Record) -> None:
    """Refuse a machine that a claim is not about, whatever was measured there."""
    if claim.applies_to != "any" and not record.device.startswith(claim.applies_to):
        raise NotTested(f"the claim is about {_KINDS[claim.applies_to]}")
    if claim.machines and not any(is_called(record.device_name, machine) for machine in claim.machines):
        raise NotTested(f"the claim is about {', '.join(claim.machines)}")


def _choose_records(claim: Claim, records: Sequence[Record]) -> Iterator[tuple[Record, ...]]:
    """Yield a record for each selector: the same one, or where a selector names a machine, one for each."""
    selectors = _selectors(claim)
    if any(selector.machine or selector.runs_on for selector in selectors):
        matching = [[record for record in records if _is_on(record, selector)] for selector in selectors]
        yield from product(*matching) if all(matching) else [()]
    else:
        yield from ((record,) * len(selectors) for record in records)


def _is_on(record: Record, selector: Selector) -> bool:
    on_machine = selector.machine is None or is_called(record.device_name, selector.machine)
    return on_machine and (selector.runs_on is None or record.device.startswith(selector.runs_on))


def is_called(device_name: str, machine: str) -> bool:
    """Return whether a device's name has all words of ``machine``, and no word that makes it another card."""
    named, wanted = (frozenset(re.findall(r"[a-z0-9]+", text.lower())) for text in (device_name, machine))
    return wanted <= named and not (named - wanted) & _OTHER_CARD


def _evaluate(claim: Claim, machine: str, records: Sequence[Record]) -> Score:
    selectors = _selectors(claim)
    if not records:
        raise NotTested(f"needs runs on {' and '.join(item.machine or item.runs_on or 'any' for item in selectors)}")
    choice = _choose(claim, [_find(claim.metric, *pair) for pair in zip(records, selectors, strict=True)])
    results = [(result, selector.at_steps) for (_, result), selector in zip(choice, selectors, strict=True)]
    values = read_values(results, claim.metric)
    estimate = _estimate(values, results[0][0].planned.protocol.confidence)
    verdict, why = judge(estimate, claim.expected)
    if any(item.reference for item in values):
        verdict, why = "not tested", NO_SAMPLES
    return Score(
        claim=claim,
        machine=machine,
        verdict=verdict,
        value=estimate.value,
        low=estimate.low,
        high=None if estimate.high == inf else estimate.high,
        why=why or (_AT_LEAST if values[0].at_least else ""),
    )


def _selectors(claim: Claim) -> tuple[Selector, ...]:
    return (claim.numerator, claim.denominator) if claim.denominator else (claim.numerator,)


def _estimate(values: Sequence[Values], confidence: float) -> Estimate:
    top, *bottom = (item.per_launch for item in values)
    is_zero = not bottom and not any(top)
    if not is_zero and any(value <= 0 for launches in (top, *bottom) for value in launches):
        raise NotTested("a value is 0, which has no logarithm")
    if bottom:
        return estimate_ratio(top, bottom[0], confidence)
    if values[0].exact or is_zero:
        # The logarithm and back would be off by a rounding, which a count must not be.
        high = inf if values[0].at_least else top[0]
        return Estimate(top[0], top[0], high, None, launch_count=len(top), sample_count=len(top))
    estimate = estimate_values(top, confidence)
    return replace(estimate, value=top[0]) if len(top) == 1 else estimate


def _find(metric: Metric, record: Record, selector: Selector) -> list[Measured]:
    """Return the results of a record whose options have the selector's values; with a pick, only those with a value."""
    picks = selector.pick == "largest batch"
    workloads = _WORKLOADS.get(metric, _TIMED | {"largest-batch"} if picks else _TIMED)
    return [
        (record, result)
        for result in record.results
        if result.planned.experiment.has(selector.options.values)
        # A reference result has whatever its source tabulated.
        and (
            "workload" in selector.options.values
            or result.planned.experiment.workload in workloads
            or result.outcome.kind == "reference"
        )
        and (not picks or result.outcome.kind in ("succeeded", "reference"))
    ]


def _choose(claim: Claim, matches: Sequence[Sequence[Measured]]) -> tuple[Measured, ...]:
    """Return the one experiment, or the one pair that differs in nothing but what the claim names.

    Of several that match, the one with the fewest options off the manifest's defaults; with a pick, among those the one
    with the largest batch.
    """
    for name, matching in zip(("numerator", "denominator"), matches, strict=False):
        if not matching:
            raise NotTested(f"no experiment of these runs has the options of its {name}")
    selectors = _selectors(claim)
    choices = list(product(*matches))
    # A precision experiment has a value for each number of steps.
    if len(selectors) > 1 and len({selector.at_steps for selector in selectors}) == 1:
        choices = [choice for choice in choices if choice[0][1] is not choice[1][1]]
        if not choices:
            raise NotTested("numerator and denominator are the same experiment")
    choices = [choice for choice in choices if _differ_as_named(claim, choice)]
    if not choices:
        raise NotTested("numerator and denominator differ in options that the claim does not name")
    picking = [selector.pick == "largest batch" for selector in selectors]
    of_batches = _BATCH_OPTIONS if any(picking) else frozenset[str]()
    ranks = [(-_count_unusual(choice, of_batches), _picked_batches(choice, picking)) for choice in choices]
    best = max(ranks)
    choices = [choice for choice, rank in zip(choices, ranks, strict=True) if rank == best]
    if len(choices) == 1:
        return choices[0]
    labels = [" / ".join(result.planned.label for _, result in choice) for choice in choices[:_LABELS_SHOWN]]
    raise NotTested(f"{len(choices)} experiments match; name more options in the claim: {'; '.join(labels)}")


def _picked_batches(choice: Sequence[Measured], picking: Sequence[bool]) -> list[int]:
    return [batch_of(item.planned, item.outcome) for (_, item), picks in zip(choice, picking, strict=True) if picks]


def _count_unusual(choice: Sequence[Measured], ignored: frozenset[str]) -> int:
    """Return how many options of a choice's experiments differ from the manifest's defaults, or else sdbench's."""
    count = 0
    for record, result in choice:
        usual = {name: field.default for name, field in Experiment.model_fields.items()}
        usual |= record.manifest.model.values | record.manifest.defaults.values
        count += sum(value != usual[name] for name, value in result.planned.experiment if name not in ignored)
    return count


def _differ_as_named(claim: Claim, choice: Sequence[Measured]) -> bool:
    named = {name for selector in _selectors(claim) for name in selector.options.values}
    if any(selector.pick == "largest batch" for selector in _selectors(claim)):
        named |= _BATCH_OPTIONS
    first, *others = (dict(result.planned.experiment) for _, result in choice)
    return all(first[name] == other[name] for other in others for name in first if name not in named)
