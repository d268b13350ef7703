"""Which points answer one question: they make the same kind of image, and stand on one scale.

A pipeline with changed configs is another pipeline: it never stands among results of the whole one.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from sdbench.report.grouping import group_by
from sdbench.report.series import Measured, Point
from sdbench.schema.experiment import Experiment
from sdbench.schema.metrics import result_work
from sdbench.schema.outcome import AnyOutcome

SEVERAL = "several pipelines"
# Whether it is a whole pipeline, then FLOP, pixels and steps of an image.
Demand = tuple[bool, int, int, int]
P = TypeVar("P", bound=Point)

# Small enough for a test on any machine: what it takes says nothing about making images.
_FOR_TESTS = "tiny-"
TRY_OUT = (
    "Tiny and changed pipelines are for comparing settings and versions; their times say nothing about whole ones."
)


def is_for_buyers(point: Point) -> bool:
    """Return whether a result says what it takes to make images; one of a tiny or changed pipeline does not."""
    return is_whole(point.experiment)


def demand_of(experiment: Experiment, outcome: AnyOutcome) -> Demand:
    """Return how much one image takes, to be ordered by: its FLOP where a launch counted them, its pixels and steps."""
    work = result_work(outcome)
    flop = 0 if work is None else work.flop
    return is_whole(experiment), flop, experiment.width * experiment.height, experiment.steps


def is_whole(experiment: Experiment) -> bool:
    """Return whether an experiment is of a pipeline that people make images with, unchanged."""
    return not experiment.pipeline.startswith(_FOR_TESTS) and not experiment.config


def by_image(points: Iterable[P]) -> dict[str, list[P]]:
    """Return the points by pipeline and image size, named ``sd-1.4, 512x512``, the most demanding first.

    Pipelines of one experiment each are one group: a chart of one row shows nothing that a word does not.
    """
    groups = group_by(points, lambda point: name_image(point.experiment))
    single = {
        name: is_for_buyers(members[0])
        for name, members in groups.items()
        if len({point.planned.experiment_id for point in members}) == 1
    }
    for names in group_by(single, single.__getitem__).values():
        if len(names) > 1:
            members = [point for name in names for point in groups.pop(name)]
            kind = SEVERAL if single[names[0]] else f"{SEVERAL} for tests"
            groups[kind] = sorted(members, key=lambda point: _demand([point]), reverse=True)
    return dict(sorted(groups.items(), key=lambda item: _demand(item[1]), reverse=True))


def name_image(experiment: Experiment) -> str:
    """Return what pipeline makes what image: ``sd-1.4, 512x512``."""
    return f"{experiment.pipeline_title}, {experiment.width}x{experiment.height}"


def main_experiments(measured: Iterable[Measured]) -> list[list[Measured]]:
    """Return the experiments by what one image is (pipeline, size, steps), the most demanding first."""
    groups = group_by(measured, lambda point: (name_image(point.experiment), point.experiment.steps))
    return sorted(groups.values(), key=_demand, reverse=True)


def _demand(members: Sequence[Point]) -> Demand:
    return max(demand_of(point.experiment, point.outcome) for point in members)
