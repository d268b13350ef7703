"""Why two results cannot be compared at all."""

from collections.abc import Iterator, Sequence
from itertools import product

from sdbench.compare.trust import trust_of
from sdbench.schema.outcome import Launch, Succeeded, counted_launches
from sdbench.schema.record import Record, Result

Measured = tuple[Record, Result]
# A check of these that found a doubt makes a figure worthless for comparison; the others stand beside the verdict.
_DISQUALIFYING = ("finite", "foreign GPU processes")


def reasons_against(baseline: Sequence[Measured], candidate: Sequence[Measured]) -> tuple[str, ...]:
    """Return in words why the results of the two sides must not be compared; nothing where they may."""
    reasons: list[str] = []
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        reasons += [f"{name}: {text}" for _, result in side for text in _unfit(result)]
    for first, second in product(baseline, candidate):
        reasons += _mismatches(first, second)
    return tuple(dict.fromkeys(reasons))


def _unfit(result: Result) -> Iterator[str]:
    outcome = result.outcome
    if outcome.kind == "published":
        yield "published without samples: shown, not judged"
    elif outcome.kind == "skipped":
        yield f"skipped, {outcome.reason}"
    elif not isinstance(outcome, Succeeded):
        yield outcome.kind.replace("_", " ")
    for check in trust_of(result):
        if check.verdict == "doubtful" and check.name in _DISQUALIFYING:
            yield f"{check.name}: {check.evidence}"


def _mismatches(first: Measured, second: Measured) -> Iterator[str]:
    if (first[0].origin == "virtual") != (second[0].origin == "virtual"):
        yield "one side is virtual: its figures are of no machine"
    a, b = (_first_launch(result) for _, result in (first, second))
    if a is None or b is None:
        return
    asked, also_asked = (result.planned.experiment for _, result in (first, second))
    same_weights_asked = all(
        getattr(asked, name) == getattr(also_asked, name)
        for name in ("architecture", "weights", "weights_seed", "hub_id", "revision", "precision", "backend")
    )
    if same_weights_asked and a.environment.weights_digest != b.environment.weights_digest:
        yield "other weights: the same were asked for, their digests differ"
    if a.environment.unet_calls != b.environment.unet_calls:
        yield f"{a.environment.unet_calls} and {b.environment.unet_calls} UNet calls"
    if a.batch != b.batch:
        yield f"batches of {a.batch} and {b.batch}"
    sizes = [{(image.width, image.height) for image in launch.images} for launch in (a, b)]
    if sizes[0] != sizes[1]:
        yield "images of different sizes"


def _first_launch(result: Result) -> Launch | None:
    launches = counted_launches(result.outcome.launches) if isinstance(result.outcome, Succeeded) else ()
    return launches[0] if launches else None
