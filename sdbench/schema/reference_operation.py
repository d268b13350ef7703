"""How fast the machine was around the timed calls of a launch, by an operation that never changes."""

from statistics import median
from typing import Annotated

from pydantic import Field

from sdbench.schema.base import Compact, PositiveFloat, PositiveInt
from sdbench.schema.experiment import Precision


class ReferenceOperation(Compact):
    """A fixed operation, timed before and after the timed calls: how fast the machine is, apart from the pipeline.

    Its times are comparable where all the rest is equal.
    """

    name: str = Field(description="What a sample runs.")
    precision: Precision = Field(description="Data type that it computes in.")
    device: str = Field(description="Device as torch names it.")
    threads: PositiveInt = Field(description="CPU threads of one operator.")
    before_s: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = Field(
        description="Seconds of each sample before the timed calls."
    )
    after_s: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = Field(
        description="Seconds of each sample after the timed calls."
    )

    @property
    def typical_s(self) -> float:
        """How long (s) it took around the timed calls: the mean of the medians before and after."""
        return (median(self.before_s) + median(self.after_s)) / 2
