"""How far a call and its phases are from what the machine reaches, and which wall is near.

The model is that of Williams, Waterman and Patterson (Roofline, CACM 52(4), 2009): a phase takes at least its FLOP over
the fastest matrix products, and at least its bytes over the memory's bandwidth; launching its operators is added here.
"""

from math import fsum
from typing import Literal

from sdbench.compare.data_sheets import DataSheet, find_data_sheet
from sdbench.compare.machine_ceilings import ceilings_of
from sdbench.compare.projection import PhaseTimes
from sdbench.models.facts import shipped_facts
from sdbench.models.pipeline_folders import load_shipped, shipped_pipelines
from sdbench.plan.estimate import count_denoiser_calls
from sdbench.schema.base import Known, Model, Unknown
from sdbench.schema.ceilings import CeilingPrecision, ceiling_precision
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Launch
from sdbench.schema.pipeline import DECODER
from sdbench.schema.record import PlannedExperiment, Record
from sdbench.schema.work import Work
from sdbench.workloads.latency import HOST_BOUND_MAX_RATIO

WallName = Literal["compute", "memory", "launch", "host", "none", "unknown"]
WHOLE, TEXT, DENOISER, DECODE = "whole call", "text encoders", "denoiser", "VAE decode"
# A wall is near where it alone takes more than half of the time: then no other can take more.
NEAR_MIN = 0.5


class Limits(Model):
    """What the machine reached in the experiment's precision, the better of both ends of the run; None is unknown."""

    flop_per_s: float | None
    memory_bytes_per_s: float | None
    launch_s: float | None
    reason: str

    @property
    def ridge_flop_per_byte(self) -> float | None:
        """From this intensity on compute is the nearer roof, below it memory."""
        return self.flop_per_s / self.memory_bytes_per_s if self.flop_per_s and self.memory_bytes_per_s else None


class Wall(Model):
    """What keeps a phase from being faster, and why it is thought so."""

    name: WallName
    reason: str


class RooflinePoint(Model):
    """A phase or the whole of one call: its work and time, and its shares of what the machine reaches.

    ``traffic_bytes`` is an upper bound: what eager mode moves without caches and fusion.
    """

    part: str
    flop: float
    duration_s: float
    traffic_bytes: float | None
    operators: int | None
    ceiling_ratio: float | None
    data_sheet_ratio: float | None
    wall: Wall

    @property
    def flop_per_s(self) -> float:
        """The achieved FLOP/s."""
        return self.flop / self.duration_s

    @property
    def intensity_flop_per_byte(self) -> float | None:
        """FLOP for each byte that is moved, at least."""
        return self.flop / self.traffic_bytes if self.traffic_bytes else None


class Roofline(Model):
    """One experiment: its precision, the limits, and the whole call followed by its phases where they are known."""

    precision: CeilingPrecision
    limits: Limits
    data_sheet: DataSheet | None
    points: tuple[RooflinePoint, ...]


class _Amount(Model):
    """What a part does in a call, and how long it takes."""

    part: str
    flop: float
    duration_s: float
    traffic_bytes: float | None = None
    operators: int | None = None


def make_roofline(
    record: Record,
    planned: PlannedExperiment,
    batch: int,
    latency_s: float,
    launch: Launch | None,
    times: PhaseTimes | None,
) -> Roofline | None:
    """Return how far an experiment is from its limits; None where its work is not known.

    Args:
        record: of the run, whose ceilings and device count.
        planned: the experiment.
        batch: the images of a call.
        latency_s: its time.
        launch: one that counts; without one, of a reference result, the work is that of the shipped pipeline.
        times: its phases, if it has any.
    """
    experiment = planned.experiment
    precision = ceiling_precision(experiment)
    if launch is None:
        amounts = _amounts_of_reference(experiment, batch, latency_s)
        limits = _no_limits("a reference result has no ceilings")
        host_bound_ratio = None
    else:
        amounts = _amounts(launch.environment.work, experiment, batch, latency_s, times)
        limits = find_limits(record, precision, launch)
        known = launch.host_bound_ratio
        host_bound_ratio = known.value if isinstance(known, Known) else None
    sheet = find_data_sheet(record.device_name)
    peak = sheet.flop_per_s(precision) if sheet else None
    if not amounts:
        return None
    points = tuple(
        RooflinePoint(
            **amount.model_dump(),
            ceiling_ratio=_ratio(amount.flop / amount.duration_s, limits.flop_per_s),
            data_sheet_ratio=_ratio(amount.flop / amount.duration_s, peak),
            wall=find_wall(amount, limits, host_bound_ratio if amount.part in (WHOLE, DENOISER) else None),
        )
        for amount in amounts
    )
    return Roofline(precision=precision, limits=limits, data_sheet=sheet, points=points)


def find_limits(record: Record, precision: CeilingPrecision, launch: Launch) -> Limits:
    """Return what the machine of a run reached at best in a precision, with the threads of a launch."""
    ends = ceilings_of(record)
    if not ends:
        unknown = record.fingerprint.state.ceilings
        return _no_limits(unknown.reason if isinstance(unknown, Unknown) else "")
    threads = {ceilings.threads for ceilings in ends}
    on_cpu = not launch.environment.device.startswith("cuda")
    if on_cpu and threads != {launch.environment.threads} and record.origin != "virtual":
        return _no_limits(f"the ceilings are of {max(threads)} threads, and it ran with {launch.environment.threads}")
    products = [item.flop_per_s for end in ends for item in end.matrix_products if item.precision == precision]
    memory = [end.memory_bytes_per_s for end in ends]
    launches = [end.launch_s for end in ends]
    return Limits(
        flop_per_s=max((item.value for item in products if isinstance(item, Known)), default=None),
        memory_bytes_per_s=max((item.value for item in memory if isinstance(item, Known)), default=None),
        launch_s=min((item.value for item in launches if isinstance(item, Known)), default=None),
        reason="",
    )


def find_wall(amount: "_Amount | RooflinePoint", limits: Limits, host_bound_ratio: float | None) -> Wall:
    """Return what alone takes the largest part of the time, if that is more than half of it.

    A GPU that was observed to wait for the host comes first: what it could reach says nothing then.
    """
    if host_bound_ratio is not None and host_bound_ratio > HOST_BOUND_MAX_RATIO:
        return Wall(name="host", reason=f"the GPU waited for Python in {host_bound_ratio:.0%} of the denoiser calls")
    shares = _shares_of_time(amount, limits)
    if not shares:
        return Wall(name="unknown", reason=limits.reason or "no ceiling is known")
    name = max(shares, key=shares.__getitem__)
    share = min(1.0, shares[name])
    words = {
        "compute": f"its FLOP at the fastest matrix product take {share:.0%} of the time",
        "memory": f"its bytes at the memory's bandwidth take up to {share:.0%} of the time",
        "launch": f"launching its {amount.operators or 0:,} operators takes {share:.0%} of the time",
    }
    if shares[name] > NEAR_MIN:
        return Wall(name=name, reason=words[name])
    return Wall(name="none", reason=f"the largest is {name}: {words[name]}")


def _shares_of_time(amount: "_Amount | RooflinePoint", limits: Limits) -> dict[WallName, float]:
    """The least time for each kind of work over the time that was measured."""
    least_s: dict[WallName, float] = {}
    if limits.flop_per_s:
        least_s["compute"] = amount.flop / limits.flop_per_s
    if limits.memory_bytes_per_s and amount.traffic_bytes:
        least_s["memory"] = amount.traffic_bytes / limits.memory_bytes_per_s
    if limits.launch_s and amount.operators:
        least_s["launch"] = amount.operators * limits.launch_s
    return {name: time_s / amount.duration_s for name, time_s in least_s.items()}


def _amounts(
    work: Work, experiment: Experiment, batch: int, latency_s: float, times: PhaseTimes | None
) -> list[_Amount]:
    """The whole call, then its phases as far as they were timed, scaled from the observed call to a timed one."""
    networks = tuple(work.flop_per_image)
    if not work.flop:
        return []
    durations_s = {WHOLE: latency_s}
    members: dict[str, tuple[str, ...]] = {WHOLE: networks}
    if times is not None and times.total_s > 0:
        scale = latency_s / times.total_s
        observed_s = {TEXT: times.text_encode_s, DENOISER: times.denoise_s, DECODE: times.vae_decode_s}
        durations_s |= {part: time_s * scale for part, time_s in observed_s.items() if time_s > 0}
        encoders = tuple(name for name in networks if name in work.text_tokens)
        denoisers = tuple(name for name in networks if name not in (*encoders, DECODER))
        members |= {TEXT: encoders, DENOISER: denoisers, DECODE: (DECODER,)}
    # onnxruntime joins operators, so theirs are not torch's.
    is_torch = experiment.backend == "pytorch"
    return [
        _Amount(
            part=part,
            flop=float(batch * sum(work.flop_per_image.get(name, 0) for name in members[part])),
            duration_s=duration_s,
            traffic_bytes=fsum(
                work.weight_bytes.get(name, 0) + batch * work.activation_bytes_per_image.get(name, 0)
                for name in members[part]
            ),
            operators=sum(work.operators.get(name, 0) for name in members[part]) if is_torch else None,
        )
        for part, duration_s in durations_s.items()
    ]


def _amounts_of_reference(experiment: Experiment, batch: int, latency_s: float) -> list[_Amount]:
    if experiment.pipeline not in shipped_pipelines() or experiment.config:
        return []
    config = load_shipped(experiment.pipeline)
    if (facts := shipped_facts(config)) is None:
        return []
    flop = batch * facts.flop_per_image(config, experiment, count_denoiser_calls(experiment))
    return [_Amount(part=WHOLE, flop=flop, duration_s=latency_s)]


def _ratio(value: float, whole: float | None) -> float | None:
    return value / whole if whole else None


def _no_limits(reason: str) -> Limits:
    return Limits(flop_per_s=None, memory_bytes_per_s=None, launch_s=None, reason=reason)
