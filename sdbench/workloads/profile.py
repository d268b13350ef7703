"""Where the time of a call goes: further calls under a profiler, after everything that is timed."""

from sdbench.backends.base import Backend, Profile
from sdbench.schema.base import Unknown
from sdbench.schema.outcome import warn
from sdbench.schema.warning_codes import WarningCode
from sdbench.units import format_duration
from sdbench.workloads.base import Session

# A further call must not make a launch much longer.
PROFILED_CALL_MAX_S = 20.0
# What the profiler makes of a call, at most: a warm-up of one step, a call twice as long, and reading its events.
_TIMES_MAX, _READING_MAX_S = 4, 10.0
_REASON_CHARACTERS = 200


def profile(session: Session, backend: Backend, call_s: float) -> Profile:
    """Return where the time of a call goes, or why that is not known; ``call_s`` is what a call takes (s).

    A profiler that fails costs no result: a warning says so.
    """
    protocol = session.protocol
    if reason := _reason_not_to(session, call_s):
        return Profile(Unknown(reason=reason))
    session.emit_stage("profile")
    try:
        return backend.profile_operators(session.clock, protocol.trace_bytes_max if protocol.trace else None)
    # torch and onnxruntime raise these where a profiler cannot start, was started before, or fills the memory; a file
    # of onnxruntime's may be one that the disk has no room for, or that is cut.
    except (RuntimeError, MemoryError, OSError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = lines[0][:_REASON_CHARACTERS]
        code = getattr(error, "warning_code", WarningCode.OPERATORS_NOT_READ)
        failed = Profile(Unknown(reason=f"{reason}; {code.hint}"), warnings=(warn(code, reason),))
    # The exception holds the frames of the call, and they its tensors.
    backend.recover()
    return failed


def _reason_not_to(session: Session, call_s: float) -> str | None:
    """Return why no call is profiled, None where one is."""
    protocol, needed_s = session.protocol, _TIMES_MAX * call_s + _READING_MAX_S
    wanted = protocol.operators
    if not session.request.is_first:
        return "only the first launch profiles a call"
    if wanted == "never":
        return "protocol.operators is never"
    if wanted == "auto" and not protocol.trace and call_s > PROFILED_CALL_MAX_S:
        return f"a call takes over {PROFILED_CALL_MAX_S:g} s; --operators profiles it all the same"
    if needed_s > session.left_s:
        left = format_duration(max(0.0, session.left_s))
        return f"{left} of protocol.launch_timeout_s are left, and a profiled call may take {format_duration(needed_s)}"
    return None
