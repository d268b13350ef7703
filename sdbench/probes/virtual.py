"""The virtual machine: configurable noise on a virtual time line, reproducible from a seed.

A virtual experiment has its noise in its options; what belongs to the machine, and so must not change the experiment's
identity, is in the variable SDBENCH_VIRTUAL: ``seed=7 factor=1.02 driver=580.65.06``. ``factor`` makes the whole
machine slower, as another driver would.
"""

import secrets
from collections.abc import Mapping
from math import sqrt
from random import Random
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from sdbench.errors import UserError
from sdbench.schema.base import Count, Known, PositiveFloat, Reading, Unknown
from sdbench.schema.ceilings import CeilingPrecision, Ceilings, MatrixProduct
from sdbench.schema.conditions import Conditions, ThrottleShare
from sdbench.schema.experiment import Experiment
from sdbench.schema.fingerprint import Fingerprint, seal_fingerprint

VARIABLE = "SDBENCH_VIRTUAL"
# How much longer a throttled launch and a stalled call take.
THROTTLED_FACTOR = 1.2
STALLED_FACTOR = 5.0
_SEED_BITS = 32
# Those of no machine: round numbers that are recognized as such.
_FLOP_PER_S, _MEMORY_BYTES_PER_S, _LAUNCH_S = 1e12, 1e11, 1e-6


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class VirtualMachine:
    """The seed of all noise, how many times slower than stated the machine is, and the driver it claims to have.

    ``clock`` is its clock over the stated one, for experiments that state one.
    ``position`` is where on its time line the machine is: how many launches came before.
    """

    seed: Annotated[int, Field(ge=0)] = Field(default_factory=lambda: secrets.randbits(_SEED_BITS))
    factor: PositiveFloat = 1.0
    driver: Annotated[str, Field(pattern=r"^\d{1,4}(\.\d{1,4}){1,2}$")] | None = None
    position: Count = 0
    clock: PositiveFloat = 1.0

    def __str__(self) -> str:
        driver = f" driver={self.driver}" if self.driver else ""
        clock = f" clock={self.clock!r}" if self.clock != 1 else ""
        return f"seed={self.seed} factor={self.factor!r}{clock}{driver}"

    def environment(self) -> dict[str, str]:
        """Return the variable that passes the machine, with its position, to a worker."""
        return {VARIABLE: f"{self} position={self.position}"}


def read_virtual_machine(environ: Mapping[str, str]) -> VirtualMachine:
    """Return the machine that SDBENCH_VIRTUAL describes; without a seed there, a new one is drawn.

    Raises:
        UserError: the variable is invalid.
    """
    text = environ.get(VARIABLE, "")
    try:
        return VirtualMachine(**dict(word.partition("=")[::2] for word in text.split()))  # type: ignore[arg-type]
    except ValidationError:
        example = "seed=7 factor=1.02 clock=0.72 driver=580.65.06"
        raise UserError(f"invalid {VARIABLE}={text!r}: expected any of {example}") from None


def read_pace(machine: VirtualMachine, experiment: Experiment) -> float:
    """Return how many times its stated latency a launch takes where the machine is on its time line."""
    position = machine.position
    noise = 0.0
    correlation = experiment.virtual.correlation
    # AR(1) with the stated deviation throughout; with no correlation only the last draw counts.
    for at in range(position + 1) if correlation else (position,):
        draw = Random(f"{machine.seed} launch {at}").gauss(0, 1)  # noqa: S311 - noise, no secret
        started = at > 0 and correlation
        noise = correlation * noise + sqrt(1 - correlation**2) * draw if started else draw
    slow = float(_draw(machine, "mode") < 1 / 2)
    pace = (1 + experiment.virtual.launch_noise * noise) * (1 + experiment.virtual.drift * position)
    pace *= 1 + experiment.virtual.mode_gap * slow
    pace *= THROTTLED_FACTOR if is_throttled(machine, experiment) else 1.0
    return max(1e-3, pace) * machine.factor / _read_clock_ratio(machine, experiment)


def virtual_ceilings(
    machine: VirtualMachine, position: int, experiment: Experiment, precisions: tuple[CeilingPrecision, ...]
) -> Ceilings:
    """Return what a virtual machine reaches after ``position`` launches: what makes it slower, without the noise."""
    clock = 1.0 if experiment.virtual.clock_mhz is None else machine.clock
    pace = machine.factor / clock * (1 + experiment.virtual.drift * position)
    products = (
        MatrixProduct(precision=name, shape="simulated", flop_per_s=Known(value=_FLOP_PER_S / pace))
        for name in precisions
    )
    unknown = Unknown(reason="the machine is virtual")
    return Ceilings(
        device="virtual",
        threads=1,
        matrix_products=tuple(products),
        memory_bytes_per_s=Known(value=_MEMORY_BYTES_PER_S / pace),
        to_device_bytes_per_s=unknown,
        from_device_bytes_per_s=unknown,
        launch_s=Known(value=_LAUNCH_S * pace),
    )


def read_clock_mhz(machine: VirtualMachine, experiment: Experiment) -> Reading[float]:
    """Return the clock of a launch where the machine is on its time line; unknown where none is configured."""
    if experiment.virtual.clock_mhz is None:
        return Unknown(reason="the machine is virtual, and virtual.clock_mhz is not set")
    return Known(value=experiment.virtual.clock_mhz * _read_clock_ratio(machine, experiment))


def _read_clock_ratio(machine: VirtualMachine, experiment: Experiment) -> float:
    """The clock of a launch over the stated one; 1 where none is stated."""
    if experiment.virtual.clock_mhz is None:
        return 1.0
    draw = Random(f"{machine.seed} clock {machine.position}").gauss(0, 1)  # noqa: S311 - noise, no secret
    return machine.clock * max(1e-3, 1 + experiment.virtual.clock_noise * draw)


def is_throttled(machine: VirtualMachine, experiment: Experiment) -> bool:
    """Return whether a launch is throttled where the machine is on its time line."""
    return _draw(machine, "throttle") < experiment.virtual.throttle


def virtual_conditions(machine: VirtualMachine, experiment: Experiment) -> Conditions:
    """Return the conditions of a virtual launch: quiet, but for configured throttling."""
    throttled = is_throttled(machine, experiment)
    shares = (ThrottleShare(reason="virtual thermal slowdown", ratio=1.0),) if throttled else ()
    unknown = Unknown(reason="the machine is virtual")
    quiet = Known(value=0.0)
    known: dict[str, Any] = {
        "throttle_shares": Known(value=shares),
        "clock_spread_ratio": quiet,
        "clock_mean_mhz": read_clock_mhz(machine, experiment),
        "others_cpu_ratio": quiet,
        "steal_ratio": quiet,
        "cpu_pressure_ratio": quiet,
        "memory_pressure_ratio": quiet,
        "foreign_gpu_process_count": Known(value=0),
    }
    return Conditions(**dict.fromkeys(Conditions.model_fields, unknown) | known)


def pretend(fingerprint: Fingerprint, machine: VirtualMachine) -> Fingerprint:
    """Return a fingerprint with the driver that the virtual machine claims to have, if it claims one."""
    if machine.driver is None:
        return fingerprint
    driver = Known(value=machine.driver)
    software = fingerprint.software.model_copy(update={"gpu_kernel_driver": driver, "gpu_libcuda": driver})
    return seal_fingerprint(fingerprint.hardware, fingerprint.configuration, software, fingerprint.state)


def _draw(machine: VirtualMachine, what: str) -> float:
    return Random(f"{machine.seed} {what} {machine.position}").random()  # noqa: S311 - noise, no secret
