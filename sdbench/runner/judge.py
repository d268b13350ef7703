"""How a worker ended, as a launch or as the outcome it gives its experiment."""

import signal
from dataclasses import dataclass

from sdbench.probes.privacy import Redactor
from sdbench.runner.process import WorkerEnd
from sdbench.schema.base import Reading
from sdbench.schema.outcome import Conditions, Failed, Launch, Notice, OutOfMemory, Published, Skipped, TimedOut

BadEnd = OutOfMemory | Failed | TimedOut

# What is kept. The process hands over more, so that redaction sees whole words at the cuts.
STDERR_TAIL_CHARACTERS = 8_000
MESSAGE_CHARACTERS = 2_000
GARBAGE_CHARACTERS = 200
# What the C++ runtime prints when nobody catches that memory ran out.
_BAD_ALLOC = "std::bad_alloc"


def judge_end(end: WorkerEnd, limit_s: float, redactor: Redactor) -> BadEnd | None:
    """Return the outcome of a launch that did not end well, without earlier launches, or None if it did.

    Every free text passes ``redactor``: no path of the user's home, no host name and no token is kept.
    """
    tail = redactor.redact(end.stderr_tail)[-STDERR_TAIL_CHARACTERS:]
    if end.timed_out:
        return TimedOut(stage=end.stage, limit_s=limit_s, stderr_tail=tail, partial=())
    if end.garbage is not None:
        garbage = redactor.redact(end.garbage)[:GARBAGE_CHARACTERS]
        return Failed(
            stage=end.stage,
            error_type="ProtocolError",
            message=f"the worker wrote what is no event: {garbage!r}; see its output",
            stderr_tail=tail,
            partial=(),
        )
    if end.failure is not None:
        message = redactor.redact(end.failure.message)[:MESSAGE_CHARACTERS]
        if end.failure.out_of_memory is not None:
            return OutOfMemory(stage=end.stage, where=end.failure.out_of_memory, message=message, partial=())
        return Failed(stage=end.stage, error_type=end.failure.error_type, message=message, stderr_tail=tail, partial=())
    if end.measurement is not None:
        return None
    return _judge_death(end, tail)


def _judge_death(end: WorkerEnd, tail: str) -> BadEnd:
    if end.return_code == -signal.SIGKILL and end.out_of_memory_kills > 0:
        message = (
            "the kernel killed the worker because host memory ran out; use a smaller batch or image, or more memory"
        )
        return OutOfMemory(stage=end.stage, where="host", message=message, partial=())
    if end.return_code == -signal.SIGABRT and _BAD_ALLOC in tail:
        message = "the worker aborted because a library could not get host memory; use a smaller batch or image"
        return OutOfMemory(stage=end.stage, where="host", message=message, partial=())
    if end.return_code < 0:
        name = (
            signal.Signals(-end.return_code).name if -end.return_code in set(signal.Signals) else str(-end.return_code)
        )
        return Failed(
            stage=end.stage,
            error_type="Killed",
            message=f"the worker was killed by {name} during {end.stage!r}; see its output and the kernel's log",
            stderr_tail=tail,
            partial=(),
        )
    return Failed(
        stage=end.stage,
        error_type="Vanished",
        message=f"the worker exited with status {end.return_code} and no result, during {end.stage!r}; see its output",
        stderr_tail=tail,
        partial=(),
    )


@dataclass(frozen=True)
class Surroundings:
    """What the supervisor knows of a launch: which it was, when, and what telemetry saw beside it."""

    index: int
    turn: int | None
    started_utc: str
    throttled: Reading[bool]
    conditions: Conditions
    notices: tuple[Notice, ...]


def build_launch(end: WorkerEnd, around: Surroundings, redactor: Redactor) -> Launch:
    """Return the launch of a worker that ended well.

    Raises:
        ValueError: it did not.
    """
    found = end.measurement
    if found is None:
        msg = "a launch without a measurement did not end well"
        raise ValueError(msg)
    warnings = tuple(
        Notice(code=notice.code, message=redactor.redact(notice.message), remedy=notice.remedy)
        for notice in (*found.warnings, *around.notices)
    )
    return Launch(
        index=around.index,
        turn=around.turn,
        batch=found.batch,
        started_utc=around.started_utc,
        wall_s=end.wall_s,
        import_s=found.import_s,
        load_s=found.load_s,
        first_call_s=found.first_call_s,
        worker_cpu_s=found.worker_cpu_s,
        supervisor_cpu_s=end.supervisor_cpu_s,
        series=found.series,
        stop_reason=found.stop_reason,
        memory=found.memory,
        energy=found.energy,
        checks=found.checks,
        images=found.images,
        exports=found.exports,
        study=found.study,
        environment=found.environment,
        throttled=around.throttled,
        conditions=around.conditions,
        warnings=warnings,
    )


def with_partial(end: BadEnd, launches: tuple[Launch, ...]) -> BadEnd:
    """Return a bad end that keeps the launches which ended well before it."""
    return type(end).model_validate({**dict(end), "partial": launches})


def describe_end(end: BadEnd | Skipped | Published) -> str:
    """Return one line for people about an experiment that gave no figure."""
    match end.kind:
        case "out_of_memory":
            return f"out of {end.where} memory during {end.stage!r}"
        case "timed_out":
            return (
                f"no end within {end.limit_s:g} s (at {end.stage!r}); "
                "raise protocol.launch_timeout_s if it only needs longer"
            )
        case "skipped":
            return f"skipped: {end.reason}"
        case "published":
            return f"published: {end.latency_s:g} s"
        case _:
            return f"failed during {end.stage!r}: {end.error_type}: {' '.join(end.message.split())[:200]}"
