"""Workload ``latency``: the time of the stock pipeline call from prompt to images, and its phases."""

import hashlib
from statistics import median
from typing import Any

from sdbench.backends.base import Backend, Clock, Observation, ReferenceSamples
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.manifest import Protocol
from sdbench.schema.metrics import PHASE_TOTAL_TOLERANCE, SUSTAINED
from sdbench.schema.outcome import ImageResult, RecordWarning, Series, StopReason, warn
from sdbench.schema.reference_operation import ReferenceOperation
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.wire import SampleEvent
from sdbench.schema.workload_results import AllocatorEvents
from sdbench.stats.intervals import relative_half_width
from sdbench.workloads.base import Session, WorkloadOutput, events_since
from sdbench.workloads.memory_warnings import find_memory_warnings, read_room
from sdbench.workloads.pictures import encode_webp
from sdbench.workloads.profile import profile

# Beyond half of the denoiser calls, the median step is the host's.
HOST_BOUND_MAX_RATIO = 0.5


def run(session: Session) -> WorkloadOutput:
    """Return the latency series (s) with warm-ups marked, and the phases and checks of the last warm-up."""
    backend, protocol, clock = session.open_backend(session.experiment), session.protocol, session.clock
    room = read_room(backend)
    warmups_s, observation, reference = _warm_up(session, backend)
    warmed_up = session.read_allocator_events()
    session.energy.start()
    session.emit_stage("measure")
    start_s = clock.now_s()
    steady_s: list[float] = []
    images: tuple[Any, ...] = ()
    while (reason := reason_to_stop(steady_s, protocol, clock.now_s() - start_s)) is None:
        images, latency_s = time_call(backend, clock)
        steady_s.append(latency_s)
        session.emit(SampleEvent(latency_s=latency_s, warmup=False))
    duration_s = clock.now_s() - start_s
    # The conditions end with the calls: the meter waits.
    session.emit_stage("reference")
    energy = session.energy.stop(len(steady_s), duration_s)
    memory, allocator = session.read_memory(), _in_timed_calls(warmed_up, session.read_allocator_events())
    reference_operation = _join(reference, backend.time_reference_operation(clock))
    sustained = _sustain(session, backend)
    session.emit_stage("verify")
    checks = (*observation.checks, *backend.observe_attention())
    profiled = profile(session, backend, median(steady_s))
    latency = Series(name="latency", unit="s", samples=(*warmups_s, *steady_s), warmup_count=len(warmups_s))
    path = session.image_path("0")
    results = _image_results(images, observation, path)
    return WorkloadOutput(
        batch=session.experiment.batch,
        series=(latency, *sustained, *_phase_series(observation)),
        stop_reason=reason,
        first_call_s=warmups_s[0],
        memory=memory,
        allocator=allocator,
        energy=energy,
        reference_operation=reference_operation,
        host_bound_ratio=observation.host_bound_ratio,
        checks=(*checks, *profiled.checks),
        operators=profiled.operators,
        images=results,
        warnings=(
            *_find_warnings(latency, results, observation),
            *find_memory_warnings(memory, allocator, room),
            *profiled.warnings,
        ),
        trace=profiled.trace,
        pictures={path: encode_webp(images[0], lossless=True)} if path else {},
    )


def _warm_up(session: Session, backend: Backend) -> tuple[list[float], Observation, Reading[ReferenceSamples]]:
    """Return how long (s) each warm-up call took, the reference operation, and what was observed in the last call.

    The reference operation follows the first call. It displaces what the caches hold: right before the timed calls it
    makes the first of them 2 to 3 % slower.
    """
    calls_s: list[float] = []
    protocol, start_s = session.protocol, session.clock.now_s()
    while True:
        session.emit_stage("warm-up" if calls_s else "first call")
        is_warm = session.clock.now_s() - start_s >= protocol.warmup_s
        if is_last := is_warm and len(calls_s) + 1 >= protocol.warmup_calls:
            observation = backend.observe(session.clock)
            calls_s.append(observation.phases_s["total"])
        else:
            calls_s.append(time_call(backend, session.clock)[1])
        session.emit(SampleEvent(latency_s=calls_s[-1], warmup=True))
        if len(calls_s) == 1:
            session.emit_stage("reference")
            with session.memory_paused():
                reference = backend.time_reference_operation(session.clock)
        if is_last:
            return calls_s, observation, reference


def _sustain(session: Session, backend: Backend) -> tuple[Series, ...]:
    """Return the series (s) of ``calls_min`` calls after ``sustained_s`` of load, whose calls are its warm-ups."""
    protocol, clock = session.protocol, session.clock
    if not protocol.sustained_s:
        return ()
    session.emit_stage("sustain")
    start_s, warmup_count = clock.now_s(), 0
    samples_s: list[float] = []
    while len(samples_s) - warmup_count < protocol.calls_min:
        warmup_count += clock.now_s() - start_s < protocol.sustained_s
        samples_s.append(time_call(backend, clock)[1])
        session.emit(SampleEvent(latency_s=samples_s[-1], warmup=True))
    return (Series(name=SUSTAINED, unit="s", samples=tuple(samples_s), warmup_count=warmup_count),)


def time_call(backend: Backend, clock: Clock) -> tuple[tuple[Any, ...], float]:
    """Return one call's images and its latency (s): two clock readings, and the device idle before each."""
    backend.synchronize()
    start_s = clock.now_s()
    images = backend.generate()
    backend.synchronize()
    return images, clock.now_s() - start_s


def reason_to_stop(steady_s: list[float], protocol: Protocol, elapsed_s: float) -> StopReason | None:
    """Return why no further timed call is needed in this launch, or None."""
    if len(steady_s) < protocol.calls_min:
        return None
    if len(steady_s) >= protocol.calls_max:
        return "max_calls"
    half_width = relative_half_width(steady_s, protocol.confidence)
    if half_width is not None and half_width <= protocol.relative_half_width:
        return "converged"
    if elapsed_s + median(steady_s) > protocol.launch_budget_s:
        return "budget"
    return None


def _phase_series(observation: Observation) -> tuple[Series, ...]:
    samples_s = {"denoise_step": observation.denoise_steps_s}
    samples_s |= {name: (phase_s,) for name, phase_s in observation.phases_s.items()}
    return tuple(Series(name=f"phase.{name}", unit="s", samples=samples) for name, samples in samples_s.items())


def _in_timed_calls(warmed_up: Reading[AllocatorEvents], timed: Reading[AllocatorEvents]) -> Reading[AllocatorEvents]:
    """Return the retries of the timed calls alone, and every caught error: what it made slower stays slower."""
    if isinstance(timed, Unknown):
        return timed
    return Known(value=timed.value.model_copy(update={"retries": events_since(warmed_up, timed).retries}))


def _pixels_sha256(image: Any) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def _image_results(
    images: tuple[Any, ...], observation: Observation, first_path: str | None
) -> tuple[ImageResult, ...]:
    return tuple(
        ImageResult(
            sha256=_pixels_sha256(image),
            width=image.width,
            height=image.height,
            finite=finite,
            constant=all(low == high for low, high in image.getextrema()),
            path=None if index else first_path,
        )
        for index, (image, finite) in enumerate(zip(images, observation.finite, strict=True))
    )


def _find_warnings(
    latency: Series, images: tuple[ImageResult, ...], observation: Observation
) -> tuple[RecordWarning, ...]:
    warnings = []
    if tuple(map(_pixels_sha256, observation.images)) != tuple(image.sha256 for image in images):
        warnings.append(warn(WarningCode.IMAGES_DIFFER, "calls with one seed gave different pixels in one process"))
    if not all(observation.finite):
        message = "the decoder's output holds NaN or infinity: the time is of a pipeline that makes no image"
        warnings.append(warn(WarningCode.NOT_FINITE, message))
    elif any(image.constant for image in images):
        message = "an image is constant, all its pixels have one color: NaN after the decoder becomes black"
        warnings.append(warn(WarningCode.NOT_FINITE, message))
    if isinstance(bound := observation.host_bound_ratio, Known) and bound.value > HOST_BOUND_MAX_RATIO:
        message = f"the GPU waited for the host in {bound.value:.0%} of the denoiser calls: the time is the CPU's"
        warnings.append(warn(WarningCode.HOST_BOUND, message))
    ratio = observation.phases_s["total"] / median(latency.steady)
    if latency.warmup_count == 1:
        message = f"the phases are of the first call, which took {ratio:.3f} times the timed calls"
        warnings.append(warn(WarningCode.PHASES_OF_FIRST_CALL, message))
    elif abs(ratio - 1) > PHASE_TOTAL_TOLERANCE:
        message = f"the call with phase timing took {ratio:.3f} times the timed calls"
        warnings.append(warn(WarningCode.PHASES_DIFFER, message))
    return tuple(warnings)


def _join(before: Reading[ReferenceSamples], after: Reading[ReferenceSamples]) -> Reading[ReferenceOperation]:
    """Return the operation with its samples before and after the timed calls, or why one of the two is missing."""
    if isinstance(before, Unknown):
        return before
    if isinstance(after, Unknown):
        return after
    described = {name: value for name, value in vars(before.value).items() if name != "samples_s"}
    return Known(value=ReferenceOperation(**described, before_s=before.value.samples_s, after_s=after.value.samples_s))
