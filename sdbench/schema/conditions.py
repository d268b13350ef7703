"""What else went on while the calls of a launch were timed."""

from typing import Literal

from pydantic import Field

from sdbench.schema.base import Compact, Model, Number, Reading

PowerSource = Literal["instant", "average over 1 s"]


class ThrottleShare(Model):
    """A reason for which the hardware slowed itself, and in which share of the measured time."""

    reason: str = Field(description="Why the hardware slowed down.")
    ratio: Number = Field(description="Share of the measured time, by the driver's counter or the samples.")


class Conditions(Compact):
    """What else went on while the calls were timed: the telemetry of the measured stage, summed up."""

    throttle_shares: Reading[tuple[ThrottleShare, ...]] = Field(description="Why the hardware slowed down.")
    clock_spread_ratio: Reading[float] = Field(description="10th to 90th percentile of the clock over its median.")
    clock_mean_mhz: Reading[float] = Field(description="Mean clock in MHz: of the SMs, or of the CPU's cores.")
    clock_setting_ratio: Reading[float] = Field(
        description="Share of the time in which application or locked clocks held the SMs' clock."
    )
    clock_max_sm_mhz: Reading[int] = Field(description="Highest clock of the SMs in MHz.")
    memory_clock_mean_mhz: Reading[float] = Field(description="Mean memory clock of the GPU in MHz.")
    performance_state: Reading[int] = Field(description="Slowest P-state of the GPU: 0 is the fastest.")
    power_mean_w: Reading[float] = Field(description="Mean power of the GPU in watts.")
    power_source: Reading[PowerSource] = Field(description="What a reading of the power is.")
    utilization_mean_ratio: Reading[float] = Field(description="Mean share of the time in which a kernel ran.")
    pcie_generation: Reading[int] = Field(description="PCIe generation of the link under load.")
    pcie_width: Reading[int] = Field(description="PCIe lanes of the link under load.")
    others_cpu_ratio: Reading[float] = Field(description="Share of the machine's CPUs that other processes kept busy.")
    load1_mean: Reading[float] = Field(description="Mean load average, with the worker's own tasks.")
    steal_ratio: Reading[float] = Field(description="Share of CPU time that the hypervisor took.")
    cpu_pressure_ratio: Reading[float] = Field(description="Share of time in which tasks waited for a CPU.")
    memory_pressure_ratio: Reading[float] = Field(description="Share of time in which tasks waited for memory.")
    cpu_quota_throttled_count: Reading[int] = Field(description="Periods in which a CPU limit throttled the process.")
    cpu_quota_throttled_s: Reading[float] = Field(description="Seconds for which it did, over all CPUs.")
    foreign_gpu_process_count: Reading[int] = Field(description="Processes of others that computed on the GPU.")
    resident_gpu_process_count: Reading[int] = Field(
        description="Processes of others on the GPU that did not compute, such as a display server."
    )
    resident_gpu_process_bytes: Reading[int] = Field(description="GPU memory of these in bytes.")
