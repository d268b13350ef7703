"""Workload ``latency``: the time of the stock pipeline call from prompt to images, and beside it its phases."""

import hashlib
from statistics import median
from typing import Any

from sdbench.backends.base import Backend, Clock, Observation
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import ImageResult, Notice, Series, StopReason
from sdbench.stats.intervals import relative_half_width
from sdbench.workloads.base import Findings, Session, encode_webp

PHASES = ("text_encode", "vae_decode", "rest", "total")
# Phases are timed in calls of their own; beyond this ratio to the timed calls they no longer speak of the same thing.
PHASE_TOTAL_TOLERANCE = 0.05


def run(session: Session) -> Findings:
    """Return the latency series (s) with warm-ups marked, and the phases from calls of their own."""
    backend, protocol, clock = session.open_backend(session.experiment), session.protocol, session.clock
    samples_s: list[float] = []
    images: tuple[Any, ...] = ()
    for index in range(protocol.warmup_calls):
        session.say_stage("first call" if index == 0 else "warm-up")
        images, latency_s = time_call(backend, clock)
        samples_s.append(latency_s)
        session.say_sample(latency_s, True)
    session.say_stage("measure")
    session.start_energy()
    start_s = clock.now_s()
    steady_s: list[float] = []
    while (reason := reason_to_stop(steady_s, protocol, clock.now_s() - start_s)) is None:
        images, latency_s = time_call(backend, clock)
        steady_s.append(latency_s)
        session.say_sample(latency_s, False)
    energy = session.stop_energy(len(steady_s), clock.now_s() - start_s)
    # The observed calls hold more alive than the timed ones: memory is read before them.
    memory = session.read_memory()
    session.say_stage("phases")
    observations = [backend.observe(clock) for _ in range(protocol.phase_calls)]
    session.say_stage("verify")
    latency = Series(name="latency", unit="s", samples=(*samples_s, *steady_s), warmup_count=len(samples_s))
    hashes = tuple(_pixels_sha256(image) for image in images)
    path = session.image_path("0")
    return Findings(
        batch=session.experiment.batch,
        series=(latency, *_phase_series(observations)),
        stop_reason=reason,
        first_call_s=samples_s[0],
        memory=memory,
        energy=energy,
        checks=observations[-1].checks,
        images=_image_results(images, hashes, observations[-1], path),
        notices=(*_notices(latency, hashes, observations), *backend.notices()),
        environment=backend.describe(),
        exports=backend.exports(),
        pictures={path: encode_webp(images[0])} if path else {},
    )


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
        return "most allowed"
    half_width = relative_half_width(steady_s, protocol.confidence)
    if half_width is not None and half_width <= protocol.relative_half_width:
        return "precise enough"
    if elapsed_s + median(steady_s) > protocol.launch_budget_s:
        return "budget"
    return None


def _phase_series(observations: list[Observation]) -> tuple[Series, ...]:
    steps = Series(
        name="phase.denoise_step",
        unit="s",
        samples=tuple(step for seen in observations for step in seen.denoise_steps_s),
    )
    others = (
        Series(name=f"phase.{name}", unit="s", samples=tuple(seen.phases_s[name] for seen in observations))
        for name in PHASES
    )
    return (steps, *others)


def _pixels_sha256(image: Any) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def _image_results(
    images: tuple[Any, ...], hashes: tuple[str, ...], seen: Observation, first_path: str | None
) -> tuple[ImageResult, ...]:
    return tuple(
        ImageResult(
            sha256=digest, width=image.width, height=image.height, finite=finite, path=None if index else first_path
        )
        for index, (image, digest, finite) in enumerate(zip(images, hashes, seen.finite, strict=True))
    )


def _notices(latency: Series, hashes: tuple[str, ...], observations: list[Observation]) -> list[Notice]:
    notices = []
    if any(tuple(map(_pixels_sha256, seen.images)) != hashes for seen in observations):
        notices.append(
            Notice(
                code="images-differ",
                message="calls with the same seed gave different pixels in one process",
                remedy="expect this of nondeterministic kernels; do not read image hashes as an identity here",
            )
        )
    if not all(finite for seen in observations for finite in seen.finite):
        notices.append(
            Notice(
                code="not-finite",
                message="the decoder's output holds NaN or infinity: the time is of a pipeline that makes no image",
                remedy="use bf16 or fp32, or weights that are finite in this precision",
            )
        )
    ratio = median(seen.phases_s["total"] for seen in observations) / median(latency.steady)
    if abs(ratio - 1) > PHASE_TOTAL_TOLERANCE:
        notices.append(
            Notice(
                code="phases-differ",
                message=f"the calls with phase timing took {ratio:.3f} times the timed calls",
                remedy="read the phases as shares only, or raise phase_calls and quiet the machine",
            )
        )
    return notices
