"""Tables of profiled calls for tests: a small network by operator and phase, and arms of ``ab`` that have one each."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.policy import MARGIN
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.operators import OUTSIDE, OperatorRow, OperatorTable
from sdbench.schema.outcome import Launch, Series, Succeeded
from sdbench.schema.record import Record, Session
from tests.fingerprints import make_fingerprint
from tests.records import make_launch, make_record, make_result

# What an operator takes of a call of 1 s, and how often it is called, by phase and operator.
SECONDS: dict[tuple[str, str], tuple[float, int]] = {
    ("text_encoder", "aten::addmm"): (0.02, 12),
    ("text_encoder", OUTSIDE): (0.02, 0),
    ("denoise_step", "aten::mkldnn_convolution"): (0.26, 140),
    ("denoise_step", "aten::_scaled_dot_product_flash_attention_for_cpu"): (0.14, 60),
    ("denoise_step", "aten::native_group_norm"): (0.04, 155),
    ("denoise_step", "aten::addmm"): (0.08, 190),
    ("denoise_step", "aten::silu"): (0.02, 120),
    ("denoise_step", "aten::copy_"): (0.01, 528),
    ("denoise_step", OUTSIDE): (0.13, 0),
    ("vae_decode", "aten::mkldnn_convolution"): (0.16, 16),
    ("vae_decode", "aten::native_group_norm"): (0.02, 22),
    ("vae_decode", OUTSIDE): (0.04, 0),
    ("rest", OUTSIDE): (0.06, 0),
}
PROFILER_COST_S = 2e-4
BLOCKS = 8

Rows = Mapping[tuple[str, str], tuple[float, int]]


def make_row(phase: str, operator: str, self_s: float, calls: int, **changes: Any) -> OperatorRow:
    """Return a row of a table, with fields changed by name."""
    given = {"kernel": None, "shapes": None, "flop": None, "bytes": None}
    return OperatorRow(phase=phase, operator=operator, self_s=self_s, calls=calls, **{**given, **changes})


def make_table(rows: Sequence[OperatorRow], **changes: Any) -> OperatorTable:
    """Return a table of rows, which add up to its call."""
    given: dict[str, Any] = {
        "profiler": "torch.profiler 2.13.0",
        "call_count": 5,
        "call_s": sum(row.self_s for row in rows),
        "rows": tuple(rows),
        "ran": {},
        "host_wait_count": None,
        "host_wait_s": None,
    }
    return OperatorTable(**{**given, **changes})


def profile(rows: Rows, noise: Random, *, pace: float = 1.0, scatter: float = 0.0) -> OperatorTable:
    """Return the table of a call that takes ``rows`` at another pace, with the profiler's cost and noise."""
    return make_table(
        [
            make_row(phase, operator, pace * (self_s * (1 + noise.gauss(0, scatter)) + PROFILER_COST_S * calls), calls)
            for (phase, operator), (self_s, calls) in rows.items()
        ]
    )


def slow_down(names: Sequence[str], added_s: float, rows: Rows = SECONDS) -> Rows:
    """Return rows of which those with one of the names take ``added_s`` more, each in proportion to its time."""
    whole_s = sum(self_s for (_, operator), (self_s, _) in rows.items() if operator in names)
    return {
        key: (self_s * (1 + added_s / whole_s), calls) if key[1] in names else (self_s, calls)
        for key, (self_s, calls) in rows.items()
    }


def make_arm(
    arm: str,
    rows: Rows,
    operators: Reading[OperatorTable],
    noise: Random,
    change: Callable[[Launch], Launch] | None = None,
) -> Record:
    """Return an arm of a session whose calls take what the rows add up to, with 1 % of noise, as do its phases."""
    places = (0, 3) if arm == "a" else (1, 2)
    launches = []
    for index in range(2 * BLOCKS):
        pace = noise.gauss(1, 0.01)
        launch = make_launch(
            index,
            position=4 * (index // 2) + places[index % 2],
            series=_make_series(rows, pace),
            operators=operators if index == 0 else Unknown(reason="only the first launch profiles a call"),
        )
        launches.append(change(launch) if change else launch)
    return make_arm_record(arm, launches)


def make_arm_record(arm: str, launches: Sequence[Launch]) -> Record:
    """Return the record of an arm of a session, with these launches of one experiment."""
    session = {"session_id": "one", "arm": arm, "seed": 1, "settings": Known(value=(f"arm={arm}",))}
    return make_record(
        run_id=f"run-{arm}",
        fingerprint=make_fingerprint(),
        results=(make_result(Succeeded(launches=tuple(launches), stop_reason="converged")),),
        session=Session.model_validate(session),
    )


def compare_arms(first: Record, second: Record) -> Comparison:
    """Return the comparison of two arms."""
    return compare_records([first], [second], MARGIN)


def _make_series(rows: Rows, pace: float) -> tuple[Series, ...]:
    sums_s: dict[str, float] = {}
    for (phase, _), (self_s, _) in rows.items():
        sums_s[phase] = sums_s.get(phase, 0.0) + pace * self_s
    sums_s["total"] = sum(sums_s.values())
    phases = (Series(name=f"phase.{phase}", unit="s", samples=(part_s,)) for phase, part_s in sums_s.items())
    return (Series(name="latency", unit="s", samples=(sums_s["total"],) * 3, warmup_count=1), *phases)
