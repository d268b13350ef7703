"""How a worker ended, as a measurement or as a failure; and how a run ended, as an exit code."""

import signal
from typing import Literal

from sdbench import exit_codes
from sdbench.privacy import Redactor
from sdbench.runner.process import WorkerEnd
from sdbench.schema.outcome import Failed, OutOfMemory, ReferenceResult, Skipped, TimedOut
from sdbench.schema.record import Record
from sdbench.schema.wire import Measurement

Failure = OutOfMemory | Failed | TimedOut

# What is kept. The process returns more, so that redaction sees complete words before the text is cut.
STDERR_TAIL_CHARACTERS = 8_000
MESSAGE_CHARACTERS = 2_000
GARBAGE_CHARACTERS = 200
# What the C++ runtime prints when nobody catches that memory ran out.
_BAD_ALLOC = "std::bad_alloc"


def judge_end(end: WorkerEnd, limit_s: float, redactor: Redactor) -> Failure | Measurement:
    """Return what a launch measured, or how it failed, without earlier launches.

    Every free text passes ``redactor``: no path of the user's home, no host name and no token is kept.
    """
    tail = redactor.redact(end.output_tail)[-STDERR_TAIL_CHARACTERS:]
    if end.timed_out:
        return TimedOut(stage=end.stage, limit_s=limit_s, stderr_tail=tail, partial=())
    if end.garbage is not None:
        garbage = redactor.redact(end.garbage)[:GARBAGE_CHARACTERS]
        return _failed(end, tail, "ProtocolError", f"malformed event from worker: {garbage!r}; see its output")
    if end.failure is not None:
        message = redactor.redact(end.failure.message)[:MESSAGE_CHARACTERS]
        where = end.failure.out_of_memory
        return _out_of_memory(end, where, message) if where else _failed(end, tail, end.failure.error_type, message)
    return end.measurement or _judge_death(end, tail)


def _judge_death(end: WorkerEnd, tail: str) -> Failure:
    if end.return_code == -signal.SIGKILL and end.out_of_memory_kills > 0:
        message = (
            "the kernel killed the worker because host memory ran out; use a smaller batch or image, or more memory"
        )
        return _out_of_memory(end, "host", message)
    if end.return_code == -signal.SIGABRT and _BAD_ALLOC in tail:
        message = "the worker aborted because a library could not get host memory; use a smaller batch or image"
        return _out_of_memory(end, "host", message)
    if end.return_code < 0:
        number = -end.return_code
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        message = f"the worker was killed by {name} during {end.stage!r}; see its output and the kernel's log"
        return _failed(end, tail, "Killed", message)
    message = f"the worker exited with status {end.return_code} and no result, during {end.stage!r}; see its output"
    return _failed(end, tail, "Vanished", message)


def _out_of_memory(end: WorkerEnd, where: Literal["device", "host"], message: str) -> OutOfMemory:
    return OutOfMemory(stage=end.stage, where=where, message=message, partial=())


def _failed(end: WorkerEnd, tail: str, error_type: str, message: str) -> Failed:
    return Failed(stage=end.stage, error_type=error_type, message=message, stderr_tail=tail, partial=())


def describe_end(end: Failure | Skipped | ReferenceResult) -> str:
    """Return one line for people about an experiment that gave no result."""
    match end.kind:
        case "out_of_memory":
            return f"out of {end.where} memory during {end.stage!r}"
        case "timed_out":
            return (
                f"did not finish within {end.limit_s:g} s (at {end.stage!r}); "
                "raise protocol.launch_timeout_s if it only needs longer"
            )
        case "skipped":
            return f"skipped: {end.reason}"
        case "reference":
            return f"reference result: {end.latency_s:g} s"
        case _:
            return f"failed during {end.stage!r}: {end.error_type}: {' '.join(end.message.split())[:200]}"


def exit_code(record: Record) -> int:
    """Return the exit code that a record deserves."""
    if record.ended == "interrupted":
        return exit_codes.INTERRUPTED
    if record.ended == "paused":
        return 0
    kinds = {result.outcome.kind for result in record.results}
    if kinds & {"failed", "timed_out"}:
        return exit_codes.EXPERIMENT_FAILED
    return exit_codes.ALL_SKIPPED if kinds == {"skipped"} else 0
