"""Which points answer one question: they make the same kind of image, and stand on one scale."""

from collections.abc import Iterable
from typing import TypeVar

from sdbench.report.grouping import group_by
from sdbench.report.series import Measured, Point
from sdbench.schema.experiment import Experiment

P = TypeVar("P", bound=Point)

# Small enough for a test on any machine: what it takes says nothing about making images.
_FOR_TESTS = "tiny-"
TRY_OUT = "Tiny pipelines are for comparing settings and versions; their times say nothing about full-size images."


def is_for_buyers(point: Point) -> bool:
    """Return whether a result says what it takes to make images; one of a tiny pipeline does not."""
    return not point.experiment.pipeline.startswith(_FOR_TESTS)


def by_image(points: Iterable[P]) -> dict[str, list[P]]:
    """Return the points by network and image size, named ``sd-1.4, 512x512``, the most demanding first."""
    groups = group_by(points, lambda point: _demand(point.experiment)[:2])
    names = {key: name_image(members[0].experiment) for key, members in groups.items()}
    return {names[key]: groups[key] for key in sorted(groups, reverse=True)}


def name_image(experiment: Experiment) -> str:
    """Return what network makes what image: ``sd-1.4, 512x512``."""
    return f"{experiment.pipeline}, {experiment.width}x{experiment.height}"


def main_experiments(measured: Iterable[Measured]) -> list[list[Measured]]:
    """Return the experiments by what one image is (network, size, steps), the most demanding first."""
    groups = group_by(measured, lambda point: _demand(point.experiment))
    return [groups[key] for key in sorted(groups, reverse=True)]


def _demand(experiment: Experiment) -> tuple[tuple[bool, str], tuple[int, int], int]:
    size = (experiment.width * experiment.height, experiment.width)
    return (not experiment.pipeline.startswith(_FOR_TESTS), experiment.pipeline), size, experiment.steps
