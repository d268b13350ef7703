"""What a machine reaches at best: the measured upper ends of its matrix products, memory, copies and launches."""

from typing import Literal

from pydantic import Field

from sdbench.schema.base import Compact, PositiveFloat, PositiveInt, Reading
from sdbench.schema.experiment import Experiment

# What matrix products compute in; TF32 is fp32 in memory.
CeilingPrecision = Literal["fp32", "tf32", "fp16", "bf16"]


class MatrixProduct(Compact):
    """The fastest of several matrix products, and of a convolution, in one precision."""

    precision: CeilingPrecision = Field(description="What it computes in.")
    shape: str = Field(
        description="Rows, depth and columns of the fastest, or a convolution that was faster; none if none ran."
    )
    flop_per_s: Reading[PositiveFloat] = Field(description="FLOP a second: an addition and a multiplication are two.")


class Ceilings(Compact):
    """The most that a device reached in a process like that of a launch, each the best of several samples."""

    device: str = Field(description="Device as torch names it.")
    threads: PositiveInt = Field(description="CPU threads of one operator.")
    matrix_products: tuple[MatrixProduct, ...] = Field(description="Matrix products by precision.")
    memory_bytes_per_s: Reading[PositiveFloat] = Field(
        description="Bytes a second that a copy or a sum of arrays reads and writes in the device's memory."
    )
    to_device_bytes_per_s: Reading[PositiveFloat] = Field(
        description="Bytes a second from pinned host memory to the GPU."
    )
    from_device_bytes_per_s: Reading[PositiveFloat] = Field(
        description="Bytes a second from the GPU to pinned host memory."
    )
    launch_s: Reading[PositiveFloat] = Field(
        description="Seconds from one minimal operator to the next: of the host, or of the GPU where that is slower."
    )

    @property
    def readings(self) -> dict[str, Reading[float]]:
        """All that such a device can have, by name: rates (1/s), and of ``launches`` the time (s) of one."""
        readings: dict[str, Reading[float]] = {
            f"matrix products {item.precision}": item.flop_per_s for item in self.matrix_products
        }
        readings["memory"] = self.memory_bytes_per_s
        if self.device.startswith("cuda"):
            readings["copies to the device"] = self.to_device_bytes_per_s
            readings["copies from the device"] = self.from_device_bytes_per_s
        return readings | {"launches": self.launch_s}


def ceiling_precision(experiment: Experiment) -> CeilingPrecision:
    """Return the precision of the ceiling that an experiment is held against: the fastest that it may compute in."""
    precision = experiment.precision if experiment.autocast == "off" else experiment.autocast
    return "tf32" if precision == "fp32" and experiment.tf32 else precision
