"""What one profiled call did: a table of its operators and kernels by phase, and what really ran."""

from typing import Annotated

from pydantic import Field

from sdbench.schema.base import Compact, Count, Number, PositiveFloat, PositiveInt

# Rows of a table in addition to those that every table has: per phase what no operator covers, and the rest.
ROWS_MAX = 60
OUTSIDE = "outside operators"
REST = "the rest"
# Keys of what really ran.
ATTENTION, CONVOLUTION, GEMM, GEMM_PRECISION = "attention", "convolution", "gemm", "gemm precision"
# The likeliest reason for a difference first.
RAN = (ATTENTION, GEMM_PRECISION, CONVOLUTION, GEMM)


class OperatorRow(Compact):
    """An operator in a phase of the profiled call, on a GPU once for each kernel that it launched.

    ``operator`` is ``OUTSIDE`` for what no operator covers: Python and dispatch, on a GPU every moment in which no
    kernel ran. It is ``REST`` for the operators of the phase that have no row of their own.
    """

    phase: str = Field(description="Phase of the call.")
    operator: str = Field(description="Operator as the profiler names it.")
    kernel: str | None = Field(description="Kernel on the GPU; null on the CPU.")
    calls: Count = Field(description="How often it ran in a call.")
    self_s: Number = Field(description="Seconds in it and in no other row, with the profiler's own cost.")
    shapes: str | None = Field(description="Digest of the shapes of its inputs; null where they are unknown.")
    flop: Count | None = Field(description="FLOP of all its calls; null where they are unknown.")
    bytes: Count | None = Field(description="Bytes of its inputs over all its calls; null where they are unknown.")


class OperatorTable(Compact):
    """Where the time of a call goes, by a profiler: shares to compare, never a latency.

    The rows add up to ``call_s``, which is longer than a timed call by the profiler's cost.
    """

    profiler: str = Field(description="What profiled the call, with its version.")
    call_count: PositiveInt = Field(description="Profiled calls, of which the rows are the mean.")
    call_s: PositiveFloat = Field(description="Seconds of a profiled call.")
    rows: Annotated[tuple[OperatorRow, ...], Field(min_length=1)] = Field(
        description="Rows by phase, the longest first."
    )
    ran: dict[str, str] = Field(description="What really ran: attention, convolution, GEMM and its precision.")
    host_wait_count: Count | None = Field(description="How often the host waited for the GPU; null on the CPU.")
    host_wait_s: Number | None = Field(description="Seconds for which it did; null on the CPU.")
