"""Further calls of the pipeline under torch's profiler: their operators by phase, and on a GPU their kernels."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sdbench.backends.base import Clock, Profile
from sdbench.backends.observed_call import Mark, ObservedCall
from sdbench.backends.operator_table import Phases, make_rows, sum_waits
from sdbench.backends.profiler_events import CALL, END, ProfilerEvents, mark_name, read_events
from sdbench.backends.trace_file import TraceTooLarge, write_trace
from sdbench.backends.what_ran import describe_attention_of, describe_cpu, describe_kernels, make_checks, run_verbosely
from sdbench.probes.memory import read_free_host_bytes
from sdbench.schema.base import Known
from sdbench.schema.operators import OperatorTable
from sdbench.schema.outcome import RecordWarning, warn
from sdbench.schema.warning_codes import WarningCode
from sdbench.units import format_bytes

# As sdbench.backends.observed_call marks it.
DENOISE_PHASE = "denoise_step"
# Calls are profiled until they have taken so long (s), so that short ones are not decided by one of them.
PROFILED_S = 1.0
_CALLS_MAX = 5
# An event takes 5.0 KB of the host's memory and 16 us: 8 as torch stops, 8 to read it (torch 2.13, 524,000 events of
# `tiny-sd` with 200 steps; without shapes 1.7 KB, but then FLOP and bytes are unknown). So at most 0.2 GB and 0.7 s:
# the steps of a call do the same, and the first of them stand for all.
EVENTS_MAX = 40_000
# A call is repeated while the events stay below this.
_REPEATED_EVENTS_MAX = 20_000
_EVENT_BYTES = 5_000


class ProfilerFailed(RuntimeError):
    """The profiler gave nothing that a table could be made of."""


class KernelsNotRead(ProfilerFailed):
    """The profiler saw the operators and no kernel of the GPU."""

    warning_code = WarningCode.KERNELS_NOT_READ


@dataclass
class MarkedCall(ObservedCall):
    """While entered, writes where each phase begins into the profiler's trace."""

    def _mark(self, next_phase: str) -> Mark:
        mark_phase(next_phase)
        return super()._mark(next_phase)


@dataclass(frozen=True)
class ProfiledCalls:
    """The events of profiled calls, how many there were, how long (s) one took, and the denoiser calls of each.

    ``raw`` is torch's own list of them.
    """

    raw: list[Any]
    events: ProfilerEvents
    call_count: int
    call_s: float
    denoiser_calls: int


def mark_phase(phase: str) -> None:
    """Write an event of no duration into the trace: from here on, what runs belongs to ``phase``."""
    import torch

    with torch.profiler.record_function(mark_name(phase)):
        pass


def profile_calls(call: MarkedCall, calls_max: int, generate: Callable[[], object]) -> ProfiledCalls:
    """Return what torch's profiler saw of up to ``calls_max`` calls, which end when they have taken a second.

    Run it after the timed calls, because CUPTI, once it was used, may stay in the process.

    Raises:
        ProfilerFailed: it saw no call, or no kernel.
        RuntimeError: what torch raises, where another profiler is active for example.
        MemoryError: the host's memory ran out; torch.OutOfMemoryError for the device's.
    """
    import torch

    on_gpu, clock = call.device.type == "cuda", call.clock
    # Not torch.profiler.profile, which in 2.10 warns of a second cycle, or makes Python objects of all events (twice
    # the time).
    profile: Any = torch.autograd.profiler.profile
    profiler = profile(use_kineto=True, use_device="cuda" if on_gpu else None, record_shapes=True)
    count = 0
    with call, profiler:
        started_s = clock.now_s()
        while count < calls_max and (count == 0 or clock.now_s() - started_s < PROFILED_S):
            mark_phase(CALL)
            generate()
            if on_gpu:
                torch.cuda.synchronize(call.device)
            count += 1
        mark_phase(END)
        duration_s = clock.now_s() - started_s
    if profiler.kineto_results is None:
        raise ProfilerFailed("torch's profiler returned no events")
    raw = profiler.kineto_results.events()
    events = read_events(raw)
    require_events(events, count, on_gpu=on_gpu)
    return ProfiledCalls(raw, events, count, duration_s / count, len(call.denoiser_batch_sizes) // count)


def require_events(events: ProfilerEvents, call_count: int, *, on_gpu: bool) -> None:
    """Do nothing where the events are of all calls, with kernels on a GPU; raises as ``profile_calls`` does."""
    if len(events.calls_ns) != call_count or len(events.marks) <= call_count:
        raise ProfilerFailed("torch's profiler returned no events of the call; is another profiler active?")
    if on_gpu and not events.kernels:
        raise KernelsNotRead("torch's profiler saw no kernel of the GPU: CUPTI is missing or is not permitted")


def profile_pipeline(backend: Any, clock: Clock, trace_bytes_max: int | None) -> Profile:
    """Return the profile of a pipeline of torch's own networks; raises as ``Backend.profile_operators`` does."""
    batch, denoiser_calls = backend.experiment.batch, backend.work.denoiser_calls

    def profile(calls_max: int, profiled: Any) -> ProfiledCalls:
        call = MarkedCall(backend.pipeline, backend.config, backend.device, clock)
        return profile_calls(call, calls_max, profiled.generate)

    one_step = backend.with_batch(batch, 1)
    # Also what starts CUPTI, which takes seconds in the first profiled call of a process.
    short = profile(1, one_step)
    calls_max, most = choose_extent(*_count_events(short), denoiser_calls)
    calls = profile(calls_max, backend if most == denoiser_calls else backend.with_batch(batch, most))
    lines = run_verbosely(one_step.generate) if backend.device.type == "cpu" else []
    ran = describe_ran(calls.events, lines)
    warnings: tuple[RecordWarning, ...] = ()
    trace = None
    if trace_bytes_max is not None:
        try:
            trace = write_trace(calls.raw, calls.events.marks_of_first_call(), trace_bytes_max)
        except TraceTooLarge:
            message = f"the trace of the profiled call has over {format_bytes(trace_bytes_max)} before it is compressed"
            warnings = (warn(WarningCode.TRACE_NOT_KEPT, message),)
    return Profile(Known(value=make_table(calls, denoiser_calls, ran)), make_checks(ran), trace, warnings)


def describe_ran(events: ProfilerEvents, lines: list[str]) -> dict[str, str]:
    """Return what really ran: in the denoiser which attention, in the whole call which libraries."""
    names = {event.correlation: event.name for event in events.operators}
    phases = Phases(events.marks)
    denoiser = {event.name for event in events.operators if phases.at(event.start_ns) == DENOISE_PHASE}
    denoiser |= {kernel.name for kernel in events.kernels if names.get(kernel.launched_by) in denoiser}
    if events.kernels:
        ran = describe_kernels((names.get(kernel.launched_by, ""), kernel.name) for kernel in events.kernels)
    else:
        ran = describe_cpu(names.values(), lines)
    return describe_attention_of(denoiser) | ran


def make_table(calls: ProfiledCalls, denoiser_calls: int, ran: dict[str, str]) -> OperatorTable:
    """Return the table of a whole call, of which ``denoiser_calls`` denoiser calls are a part.

    Where fewer were profiled, the denoising steps count as often as a whole call has them.
    """
    import torch

    events, count, scale = calls.events, calls.call_count, denoiser_calls / calls.denoiser_calls
    scales = {DENOISE_PHASE: scale}
    rows = make_rows(events.operators, events.kernels, events.marks, count, scales)
    wait_count, wait_s = sum_waits(events.waits, events.marks, count, scales)
    steps_s = sum(row.self_s for row in rows if row.phase == DENOISE_PHASE)
    cut = "" if scale == 1 else f", {calls.denoiser_calls} of {denoiser_calls} denoiser calls"
    return OperatorTable(
        profiler=f"torch.profiler {torch.__version__}{cut}",
        call_count=count,
        call_s=calls.call_s + steps_s * (1 - 1 / scale),
        rows=rows,
        ran=ran,
        host_wait_count=wait_count if events.kernels else None,
        host_wait_s=wait_s if events.kernels else None,
    )


def choose_extent(step_events: int, other_events: int, denoiser_calls: int) -> tuple[int, int]:
    """Return how many calls are profiled, and with how many of their denoiser calls.

    ``step_events`` are those of one denoiser call, ``other_events`` those of a call in addition to them. All together
    stay below a limit, and below what the host has memory for.
    """
    most = EVENTS_MAX
    with suppress(OSError):
        most = min(most, read_free_host_bytes() // _EVENT_BYTES)
    repeated = min(most, _REPEATED_EVENTS_MAX) // max(1, other_events + step_events * denoiser_calls)
    steps = (most - other_events) // max(1, step_events)
    return max(1, min(_CALLS_MAX, repeated)), max(1, min(denoiser_calls, steps))


def _count_events(short: ProfiledCalls) -> tuple[int, int]:
    """Return the events of a denoiser call, and those of a call in addition, as the operators are divided."""
    events, phases = short.events, Phases(short.events.marks)
    denoising = sum(phases.at(event.start_ns) == DENOISE_PHASE for event in events.operators)
    share = denoising / max(1, len(events.operators))
    return round(events.event_count * share / short.denoiser_calls), round(events.event_count * (1 - share))
