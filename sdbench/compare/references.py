"""Reference machines: the 2022 study's results that answer the same question as a result of this machine."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from sdbench.compare.projection import project
from sdbench.compare.quality import timed_calls_s
from sdbench.schema.experiment import STUDY_STEPS, Experiment
from sdbench.schema.metrics import launches_that_count
from sdbench.schema.outcome import ReferenceResult
from sdbench.schema.record import Record, Result
from sdbench.stats.intervals import Estimate, estimate_latency
from sdbench.store.bundle import load_record

# What every result of the study is, and what an own result must be to stand next to them.
QUESTION = {"pipeline": "sd-1.4", "config": {}, "workload": "latency", "width": 512, "height": 512}


@dataclass(frozen=True)
class Reference:
    """A published latency (s per call of the whole batch, 50 steps) of another machine."""

    device_name: str
    is_gpu: bool
    year: int | None
    experiment: Experiment
    latency_s: float


@dataclass(frozen=True)
class StudyAnswer:
    """What a result of this machine says of the study's question: s per call of 50 steps, measured or projected.

    ``caveat`` says why a projection is rougher than its interval.
    """

    result: Result
    estimate: Estimate
    is_projected: bool
    caveat: str | None

    @property
    def experiment(self) -> Experiment:
        """The experiment's options; of a projection, those that were measured."""
        return self.result.planned.experiment


def references_for(record: Record) -> tuple[Reference, ...]:
    """Return the references next to a record's main answer, one per machine, the fastest first; none without it."""
    answer = main_answer(record)
    return () if answer is None else references_like(answer.experiment)


def references_like(experiment: Experiment) -> tuple[Reference, ...]:
    """Return of each reference machine the result of the same batch and the nearest precision, the fastest first.

    Precisions are near that are both of 16 bits or both of 32; among these the same backend goes first.
    """
    nearest: dict[str, Reference] = {}
    for reference in load_references():
        other = nearest.get(reference.device_name)
        if reference.experiment.batch != experiment.batch:
            continue
        if other is None or _distance(reference.experiment, experiment) < _distance(other.experiment, experiment):
            nearest[reference.device_name] = reference
    return tuple(sorted(nearest.values(), key=lambda reference: reference.latency_s))


def main_answer(record: Record) -> StudyAnswer | None:
    """Return the answer of a record to the study's question: of the smallest batch the fastest, measured if possible.

    None where nothing was measured that answers it, or the results are simulated.
    """
    if record.origin != "measured":
        return None
    answers = (answer for result in record.results if (answer := answer_of(result)))
    return min(answers, key=lambda item: (item.experiment.batch, item.is_projected, item.estimate.value), default=None)


def answer_of(result: Result) -> StudyAnswer | None:
    """Return what a result says of SD v1.4 at 512x512 and 50 steps, projected from fewer; None if nothing."""
    experiment, calls_s = result.planned.experiment, timed_calls_s(result.outcome)
    if not calls_s or not experiment.has(QUESTION) or experiment.guidance_scale <= 1:
        return None
    if experiment.steps == STUDY_STEPS:
        return StudyAnswer(
            result, estimate_latency(calls_s, result.planned.protocol.confidence), is_projected=False, caveat=None
        )
    projection = project(result.planned, launches_that_count(result.outcome))
    if projection is None:
        return None
    return StudyAnswer(result, projection.estimate, is_projected=True, caveat=projection.caveat)


@cache
def load_references() -> tuple[Reference, ...]:
    """Return every latency that the 2022 study published, from the records that ship with sdbench."""
    folder = Path(str(files("sdbench"))) / "references"
    records = (load_record(path.parent) for path in sorted(folder.glob("*/record.json")))
    return tuple(reference for record in records for reference in _references_of(record))


def _references_of(record: Record) -> Iterable[Reference]:
    for result in record.results:
        if isinstance(result.outcome, ReferenceResult) and record.manifest.source is not None:
            yield Reference(
                device_name=record.device_name,
                is_gpu=record.device.startswith("cuda"),
                year=record.manifest.source.year,
                experiment=result.planned.experiment,
                latency_s=result.outcome.latency_s,
            )


def _distance(reference: Experiment, own: Experiment) -> tuple[bool, bool]:
    return is_half(reference) != is_half(own), reference.backend != own.backend


def is_half(experiment: Experiment) -> bool:
    """Return whether an experiment computes with 16 bits."""
    return experiment.precision != "fp32" or experiment.autocast != "off"
