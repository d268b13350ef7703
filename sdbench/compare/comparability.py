"""Why two results cannot be compared at all."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

from sdbench.compare.quality import quality_checks_of
from sdbench.models.pipeline_folders import find_pipeline
from sdbench.plan.estimate import count_denoiser_calls
from sdbench.schema.experiment import Experiment
from sdbench.schema.metrics import launches_that_count
from sdbench.schema.outcome import AnyOutcome, Launch
from sdbench.schema.record import Record, Result
from sdbench.schema.work import DENOISER_BATCH_CHECK
from sdbench.store.cache_folder import cache_folder

Measured = tuple[Record, Result]
# A result with one of these warnings is not compared; other warnings are shown with the verdict.
_DISQUALIFYING = ("finite", "foreign GPU processes")


def _guided_batch(experiment: Experiment) -> int:
    return find_pipeline(experiment, cache_folder()).guided_batch(experiment.guidance_scale)


# The options that decide about the work of a call: what is incomparable if they differ, in words.
_WORK: tuple[tuple[tuple[str, ...], str, Callable[[Experiment], object]], ...] = (
    (("workload",), "workloads {} and {}", lambda experiment: experiment.workload),
    (("pipeline", "config"), "pipelines {} and {}", lambda experiment: experiment.pipeline_title),
    (("backend",), "simulated results: {} and {}", lambda experiment: experiment.backend == "virtual"),
    (("steps", "scheduler"), "{} and {} denoiser calls", count_denoiser_calls),
    (("batch",), "batches of {} and {}", lambda experiment: experiment.batch),
    (("width", "height"), "images of {} and {}", lambda experiment: f"{experiment.width}x{experiment.height}"),
    (("max_sequence_length",), "prompts of {} and {} tokens", lambda experiment: experiment.max_sequence_length),
    (("guidance_scale",), "{} and {} samples of an image in a denoiser call", _guided_batch),
)


def group_by_experiment(records: Iterable[Record]) -> dict[str, tuple[Measured, ...]]:
    """Return the results of records by the id of their experiment."""
    groups: dict[str, tuple[Measured, ...]] = {}
    for record in records:
        for result in record.results:
            key = result.planned.experiment_id
            groups[key] = (*groups.get(key, ()), (record, result))
    return groups


def reasons_against(baseline: Sequence[Measured], candidate: Sequence[Measured]) -> tuple[str, ...]:
    """Return in words why results must not be compared; nothing where they may."""
    reasons: list[str] = []
    for name, items in (("baseline", baseline), ("candidate", candidate)):
        reasons += [f"{name}: {text}" for _, result in items for text in _disqualify(result)]
    for first, second in product(baseline, candidate):
        reasons += _mismatches(first, second)
    return tuple(dict.fromkeys(reasons))


def find_other_work(first: Experiment, second: Experiment) -> tuple[tuple[str, ...], str] | None:
    """Return why two experiments would be incomparable once they ran, after the options that differ; None if not."""
    for names, text, read in _WORK:
        a, b = read(first), read(second)
        if a != b:
            differing = tuple(name for name in names if getattr(first, name) != getattr(second, name))
            return differing, text.format(a, b)
    return None


def explain_outcome(outcome: AnyOutcome) -> str:
    """Return how an experiment ended, in words."""
    return f"skipped, {outcome.reason}" if outcome.kind == "skipped" else outcome.kind.replace("_", " ")


def _disqualify(result: Result) -> Iterator[str]:
    if result.outcome.kind == "reference":
        yield "a reference result without samples: informational"
    elif result.outcome.kind != "succeeded":
        yield explain_outcome(result.outcome)
    for check in quality_checks_of(result):
        if check.verdict == "warned" and check.name in _DISQUALIFYING:
            yield f"{check.name}: {check.evidence}"


def _mismatches(first: Measured, second: Measured) -> Iterator[str]:
    if (first[0].origin == "virtual") != (second[0].origin == "virtual"):
        yield "simulated results in one of the two only"
    launches = [launches_that_count(result.outcome) for _, result in (first, second)]
    if not all(launches):
        return
    a, b = (counted[0] for counted in launches)
    options, other_options = (result.planned.experiment for _, result in (first, second))
    weights = ("pipeline", "config", "weights", "weights_seed", "hub_id", "revision", "precision", "backend")
    requested_same = all(getattr(options, name) == getattr(other_options, name) for name in weights)
    if requested_same and a.environment.weights_digest != b.environment.weights_digest:
        yield "different weights: the same were requested, but their digests differ"
    if options.pipeline_title != other_options.pipeline_title:
        yield f"pipelines {options.pipeline_title} and {other_options.pipeline_title}"
    yield from _find_other_counts(a, b)
    if a.batch != b.batch:
        yield f"batches of {a.batch} and {b.batch}"
    sizes = [{(image.width, image.height) for image in launch.images} for launch in (a, b)]
    if sizes[0] != sizes[1]:
        yield "images of different sizes"


def _find_other_counts(first: Launch, second: Launch) -> Iterator[str]:
    """Yield what was counted and differs; FLOP are left out, because torch's count changes from version to version."""
    a, b = first.environment.work, second.environment.work
    if a.denoiser_calls != b.denoiser_calls:
        yield f"{a.denoiser_calls} and {b.denoiser_calls} denoiser calls"
    if a.latent_tokens != b.latent_tokens:
        yield f"{a.latent_tokens} and {b.latent_tokens} latent tokens"
    if a.text_tokens != b.text_tokens:
        counts = (" + ".join(map(str, work.text_tokens.values())) or "no" for work in (a, b))
        yield "{} and {} text tokens".format(*counts)
    samples = [
        item.expected for launch in (first, second) for item in launch.checks if item.name == DENOISER_BATCH_CHECK
    ]
    if first.batch == second.batch and len(set(samples)) > 1:
        yield f"{' and '.join(dict.fromkeys(samples))} samples in a denoiser call, because of guidance"
