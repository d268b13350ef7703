"""What a source claims, held against what records measured: a verdict with the value and its interval."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from typing import Literal

from sdbench.compare.metrics import Values, batch_of, read_metric
from sdbench.schema.base import Model
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Claim, Interval, Metric, Selector
from sdbench.schema.record import Record, Result
from sdbench.stats.intervals import Estimate, estimate_ratio, estimate_values

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not tested"]

NO_SAMPLES = "published without samples: not judged"
_ONE_LAUNCH = "one launch has no interval"
_OVER_THE_EDGE = "the interval lies partly inside what is expected"
# Which workloads a metric is of, where a selector does not say.
_WORKLOADS: dict[str, frozenset[str]] = {
    "largest_batch": frozenset({"largest-batch"}),
    "dissimilarity": frozenset({"precision"}),
}
_TIMED = frozenset({"latency"})
# What differs between experiments by the very meaning of "at its largest batch".
_BATCH_OPTIONS = frozenset({"batch", "workload", "batch_max", "memory_limit_bytes"})
_AT_LEAST = "the search ended at its upper end: it may be more"
_LABELS_SHOWN = 3
# Words that make another card of the same number.
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


@dataclass(frozen=True)
class _Found:
    record: Record
    result: Result


def score_claims(claims: Sequence[Claim], records: Sequence[Record]) -> tuple[Score, ...]:
    """Return a score for every claim on every machine it speaks of, in the order of the claims."""
    return tuple(score for claim in claims for score in _score(claim, records))


def score_own_claims(records: Sequence[Record]) -> tuple[Score, ...]:
    """Return the scores of the claims in the records' own manifests.

    A record whose manifest has another claim of the same name is left to that one.
    """
    return tuple(
        score
        for claim in claims_of(records)
        for score in _score(claim, [record for record in records if not _claims_otherwise(record, claim)])
    )


def _claims_otherwise(record: Record, claim: Claim) -> bool:
    return any(own.id == claim.id and own != claim for own in record.manifest.claims)


def join_untested(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Return the scores with machines of which a claim cannot say anything, for one reason, in one line."""
    joined: dict[tuple[str, str, str], Score] = {}
    for position, score in enumerate(scores):
        alone = score.value is not None
        key = (score.claim.id, score.why, str(position) if alone else "")
        earlier = joined.get(key)
        machine = score.machine if earlier is None else f"{earlier.machine}; {score.machine}"
        joined[key] = score.model_copy(update={"machine": machine})
    return tuple(joined.values())


def judge(estimate: Estimate, expected: Interval) -> tuple[Verdict, str]:
    """Return the verdict on an interval: wholly inside is reproduced, wholly outside is not, else inconclusive."""
    if estimate.low is None or estimate.high is None:
        return "inconclusive", _ONE_LAUNCH
    floor = float("-inf") if expected.low is None else expected.low
    ceiling = float("inf") if expected.high is None else expected.high
    if floor <= estimate.low and estimate.high <= ceiling:
        return "reproduced", ""
    if estimate.high < floor or estimate.low > ceiling:
        return "not reproduced", ""
    return "inconclusive", _OVER_THE_EDGE


def claims_of(records: Sequence[Record]) -> tuple[Claim, ...]:
    """Return the claims in the records' manifests, each once."""
    found: list[Claim] = []
    for claim in (claim for record in records for claim in record.manifest.claims):
        if claim not in found:
            found.append(claim)
    return tuple(found)


def _score(claim: Claim, records: Sequence[Record]) -> Iterator[Score]:
    for tops, bottoms in _sides(claim, records):
        machine = " against ".join(dict.fromkeys(record.device_name for record in (*tops, *bottoms)))
        if claim.applies_to != "any" and not all(r.device.startswith(claim.applies_to) for r in (*tops, *bottoms)):
            yield _untested(claim, machine, f"it speaks of {claim.applies_to} only")
            continue
        yield _evaluate(claim, machine, tops, bottoms)


def _sides(claim: Claim, records: Sequence[Record]) -> Iterator[tuple[tuple[Record, ...], tuple[Record, ...]]]:
    """Yield the records to look for each side in: the same one, or where a side names a machine, one of each."""
    top, bottom = claim.numerator, claim.denominator
    tops = [record for record in records if _is_on(record, top)]
    bottoms = [record for record in records if bottom and _is_on(record, bottom)]
    if not (top.machine or top.runs_on or (bottom and (bottom.machine or bottom.runs_on))):
        yield from (((record,), (record,)) for record in records)
    elif not tops or (bottom and not bottoms):
        yield (), ()
    elif bottom is None:
        yield from (((record,), ()) for record in tops)
    else:
        yield from (((first,), (second,)) for first, second in product(tops, bottoms))


def _is_on(record: Record, selector: Selector) -> bool:
    on_machine = selector.machine is None or is_called(record.device_name, selector.machine)
    return on_machine and (selector.runs_on is None or record.device.startswith(selector.runs_on))


def is_called(device_name: str, machine: str) -> bool:
    """Return whether a device's name has all words of ``machine``, and no word that makes it another card."""
    named, wanted = (frozenset(re.findall(r"[a-z0-9]+", text.lower())) for text in (device_name, machine))
    return wanted <= named and not (named - wanted) & _OTHER_CARD


def _evaluate(claim: Claim, machine: str, tops: Sequence[Record], bottoms: Sequence[Record]) -> Score:
    if not tops:
        wanted = " and ".join(
            side.machine or str(side.runs_on)
            for side in (claim.numerator, claim.denominator)
            if side and (side.machine or side.runs_on)
        )
        return _untested(claim, "none of these", f"it needs runs on {wanted}")
    below = None if claim.denominator is None else _find(claim.metric, bottoms, claim.denominator)
    pair = _choose(claim, _find(claim.metric, tops, claim.numerator), below)
    if isinstance(pair, str):
        return _untested(claim, machine, pair)
    values = [
        read_metric(found.record, found.result, claim.metric, side.at_steps)
        for found, side in zip(pair, (claim.numerator, claim.denominator), strict=False)
        if side is not None
    ]
    readable = [item for item in values if isinstance(item, Values)]
    if len(readable) < len(values):
        return _untested(claim, machine, next(item for item in values if isinstance(item, str)))
    return _estimate(claim, machine, pair, readable)


def _estimate(claim: Claim, machine: str, pair: Sequence[_Found], values: Sequence[Values]) -> Score:
    confidence = pair[0].result.planned.protocol.confidence
    top, *bottom = (side.per_launch for side in values)
    identical = not bottom and not any(top)
    if not identical and any(value <= 0 for side in values for value in side.per_launch):
        return _untested(claim, machine, "a value is 0, which has no logarithm")
    if bottom:
        estimate = estimate_ratio(top, bottom[0], confidence)
    elif values[0].exact or identical:
        # The logarithm and back would be off by a rounding, which a count must not be.
        high = inf if values[0].at_least else top[0]
        estimate = estimate_values((1.0,), confidence).model_copy(update={"value": top[0], "low": top[0], "high": high})
    else:
        estimate = estimate_values(top, confidence)
    if any(side.published for side in values):
        verdict: Verdict = "not tested"
        why = NO_SAMPLES
    else:
        verdict, why = judge(estimate, claim.expected)
    return Score(
        claim=claim,
        machine=machine,
        verdict=verdict,
        value=estimate.value,
        low=estimate.low,
        high=None if estimate.high == inf else estimate.high,
        why=why or _AT_LEAST * values[0].at_least,
    )


def _untested(claim: Claim, machine: str, why: str) -> Score:
    return Score(claim=claim, machine=machine, verdict="not tested", value=None, low=None, high=None, why=why)


def _find(metric: Metric, records: Sequence[Record], selector: Selector) -> list[_Found]:
    """The results whose options have the selector's values; with a pick, those that were measured."""
    picks = selector.pick == "largest batch"
    workloads = _WORKLOADS.get(metric, _TIMED | {"largest-batch"} if picks else _TIMED)
    found = [
        _Found(record, result)
        for record in records
        for result in record.results
        if _has_options(result, selector) and _is_of(result, selector, workloads)
    ]
    return [item for item in found if not picks or item.result.outcome.kind in ("succeeded", "published")]


def _is_of(result: Result, selector: Selector, workloads: frozenset[str]) -> bool:
    """Whether a result is of a workload that has the metric; a published figure is of whatever its source tabulated."""
    workload = result.planned.experiment.workload
    return "workload" in selector.options or workload in workloads or result.outcome.kind == "published"


def _has_options(result: Result, selector: Selector) -> bool:
    options = dict(result.planned.experiment)
    return all(
        options[name] == value and isinstance(options[name], bool) == isinstance(value, bool)
        for name, value in selector.options.items()
    )


def _choose(claim: Claim, tops: list[_Found], bottoms: list[_Found] | None) -> tuple[_Found, ...] | str:
    """Return the one experiment, or the one pair that differs in nothing but what the claim names; or why not.

    Of several that fit, the plainest is meant: with the fewest options off what the manifest has throughout; and with
    a pick, among the plainest the one with the largest batch.
    """
    if not tops or bottoms == []:
        side = "numerator" if not tops else "denominator"
        return f"no experiment of these runs is what its {side} names"
    if bottoms is None:
        choices: list[tuple[_Found, ...]] = [(top,) for top in tops]
    else:
        pairs = [(top, bottom) for top in tops for bottom in bottoms if not _are_one(claim, top, bottom)]
        if not pairs:
            return "numerator and denominator are one and the same experiment"
        choices = [pair for pair in pairs if _differ_as_named(claim, *pair)]
    if not choices:
        return "numerator and denominator differ in more than the claim names"
    picking = [side is not None and side.pick == "largest batch" for side in (claim.numerator, claim.denominator)]
    of_batches = _BATCH_OPTIONS if any(picking) else frozenset[str]()
    fewest = min(_count_unusual(choice, of_batches) for choice in choices)
    choices = [choice for choice in choices if _count_unusual(choice, of_batches) == fewest]
    largest = max(_picked_batches(choice, picking) for choice in choices)
    choices = [choice for choice in choices if _picked_batches(choice, picking) == largest]
    if len(choices) == 1:
        return choices[0]
    labels = [" / ".join(found.result.planned.label for found in choice) for choice in choices[:_LABELS_SHOWN]]
    return f"{len(choices)} experiments fit, name more options: {'; '.join(labels)}"


def _are_one(claim: Claim, top: _Found, bottom: _Found) -> bool:
    """Whether both sides are one figure; a study of precision has one for each number of steps."""
    at_steps = {side.at_steps for side in (claim.numerator, claim.denominator) if side is not None}
    return top.result is bottom.result and len(at_steps) == 1


def _picked_batches(choice: Sequence[_Found], picking: Sequence[bool]) -> tuple[int, ...]:
    return tuple(batch_of(found.result) for found, picks in zip(choice, picking, strict=False) if picks)


def _count_unusual(choice: Sequence[_Found], ignored: frozenset[str]) -> int:
    """How many options of a choice's experiments are off the manifest's own defaults, or else sdbench's."""
    return sum(
        value != usual[name]
        for found in choice
        for usual in [_usual_options(found.record)]
        for name, value in found.result.planned.experiment
        if name not in ignored
    )


def _usual_options(record: Record) -> dict[str, object]:
    manifest = record.manifest
    model = {name: value for name, value in manifest.model if value is not None}
    fields = Experiment.model_fields.items()
    return {name: field.default for name, field in fields} | model | manifest.defaults


def _differ_as_named(claim: Claim, top: _Found, bottom: _Found) -> bool:
    sides = [side for side in (claim.numerator, claim.denominator) if side is not None]
    named = {name for side in sides for name in side.options}
    if any(side.pick == "largest batch" for side in sides):
        named |= _BATCH_OPTIONS
    first, second = (dict(found.result.planned.experiment) for found in (top, bottom))
    return all(first[name] == second[name] for name in first if name not in named)
