"""The profiled call of the first launch: after all that is timed, within its time, and never a failure."""

from typing import Any

import pytest

from sdbench.backends.base import Profile
from sdbench.backends.profiled_call import KernelsNotRead
from sdbench.schema.base import Unknown
from sdbench.schema.manifest import Protocol
from sdbench.schema.warning_codes import WarningCode
from sdbench.workloads.latency import run
from sdbench.workloads.profile import profile
from tests.workloads.virtual import FakeClock, VirtualBackend, VirtualSession


def profile_virtual(
    call_s: float = 1.0,
    *,
    is_first: bool = True,
    elapsed_s: float = 0.0,
    error: Exception | None = None,
    **protocol: Any,
) -> tuple[Profile, VirtualBackend]:
    backend = VirtualBackend(FakeClock(), [call_s], profiler_error=error)
    session = VirtualSession(backend, Protocol(**protocol))
    session.request = session.request.model_copy(update={"is_first": is_first})
    backend.clock.now += elapsed_s
    return profile(session, backend, call_s), backend


def test_first_launch_profiles_a_call_after_all_that_is_timed() -> None:
    backend = VirtualBackend(FakeClock(), [1.0])
    session = VirtualSession(backend, Protocol(warmup_calls=2, calls_min=3, calls_max=5))
    session.request = session.request.model_copy(update={"is_first": True})
    run(session)
    last = max(i for i, entry in enumerate(backend.log) if entry in ("generate", "reference operation", "read memory"))
    assert backend.log.index("profile") > last


def test_launch_with_a_table_does_the_same_as_one_without_until_the_profiler_starts() -> None:
    logs = {}
    for wanted in ("always", "never"):
        backend = VirtualBackend(FakeClock(), [3.0, 2.0, 1.0, 1.1, 1.2])
        session = VirtualSession(backend, Protocol(operators=wanted, warmup_calls=2, calls_min=3, calls_max=5))
        session.request = session.request.model_copy(update={"is_first": True})
        output = run(session)
        logs[wanted] = backend.log, output.series, output.memory, output.energy
    with_table, without = logs["always"], logs["never"]
    # Stage and call of the profiler, after which nothing follows.
    assert with_table[0] == [*without[0], "profile", "profile"]
    assert with_table[1:] == without[1:]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_first": False}, "only the first launch profiles a call"),
        ({"operators": "never"}, "protocol.operators is never"),
        ({"call_s": 21.0}, "a call takes over 20 s; --operators profiles it all the same"),
        (
            {"call_s": 5.0, "launch_timeout_s": 100.0, "elapsed_s": 75.0},
            "25.0 s of protocol.launch_timeout_s are left, and a profiled call may take 30.0 s",
        ),
        ({"launch_timeout_s": 100.0, "elapsed_s": 200.0}, None),
    ],
)
def test_call_is_not_profiled_for_a_reason(changes: dict[str, Any], reason: str | None) -> None:
    profiled, backend = profile_virtual(**changes)
    assert "profile" not in backend.log
    assert isinstance(profiled.operators, Unknown)
    assert reason is None or profiled.operators.reason == reason
    assert profiled.warnings == ()


@pytest.mark.parametrize("protocol", [{"operators": "always"}, {"trace": True}])
def test_long_call_is_profiled_where_that_is_asked_for(protocol: dict[str, Any]) -> None:
    profiled, backend = profile_virtual(21.0, **protocol)
    assert "profile" in backend.log
    assert profiled.trace == (b"trace" if "trace" in protocol else None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("Profiler is already enabled on this thread\nand more"), WarningCode.OPERATORS_NOT_READ),
        (MemoryError(), WarningCode.OPERATORS_NOT_READ),
        (OSError("No space left on device"), WarningCode.OPERATORS_NOT_READ),
        (ValueError("Expecting value: line 1"), WarningCode.OPERATORS_NOT_READ),
        (KernelsNotRead("torch's profiler saw no kernel of the GPU"), WarningCode.KERNELS_NOT_READ),
    ],
    ids=str,
)
def test_profiler_that_fails_is_a_warning_with_its_reason_and_no_failure(error: Exception, code: WarningCode) -> None:
    profiled, backend = profile_virtual(error=error)
    (warning,) = profiled.warnings
    assert warning.code == code
    assert warning.message == (str(error).partition("\n")[0] or type(error).__name__)
    assert isinstance(profiled.operators, Unknown)
    assert profiled.operators.reason == f"{warning.message}; {code.hint}"
    assert backend.log[-1] == "recover"


def test_wrong_program_is_not_hidden() -> None:
    with pytest.raises(AttributeError):
        profile_virtual(error=AttributeError("a bug"))
