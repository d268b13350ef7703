"""The ratio at equal speed of the reference operation: where there is one, and when a verdict may be based on it.

The candidate may change the reference as well (a driver that slows everything). The same launches cannot exclude that
as closely as the adjusted ratio is known, so four conditions keep the damage within the margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p

from sdbench.compare.levels import Level, Timed, pair_blocks
from sdbench.compare.policy import ALPHA, Adjustment, ComparedMetric, RatioInterval, p_any_change
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Launch
from sdbench.schema.record import Result
from sdbench.stats.adjusted import AdjustedRatio, adjusted_paired_ratio, adjusted_welch_ratio
from sdbench.stats.ratios import LogRatio, paired_ratio, welch_ratio

# The p at which the reference operation is shown to have changed. Where chance moves the reference, it moves the plain
# ratio as well, and that is then what counts: at 0.01, intervals of 95 % that a verdict is based on cover the truth in
# 93.9 % of 50,000 trials of one noise model, at 0.005 in 94.3 % of 40,000 (docs/methodology/adjustment.md).
REFERENCE_CHANGED = 0.005
# The launches of each session of an arm, with their values.
ArmSessions = Sequence[Sequence[Timed]]


@dataclass(frozen=True)
class Adjusted:
    """The plain ratio, the one at equal reference or why there is none, and whether both protocols ask for it."""

    level: Level
    plain: LogRatio
    fit: AdjustedRatio | Unknown
    requested: bool

    @property
    def reference_changed(self) -> bool:
        """Whether the reference operation itself is shown to differ between the arms."""
        return not isinstance(self.fit, Unknown) and self.fit.reference.p_beyond(0.0) <= REFERENCE_CHANGED

    def reason_against(self, margin: float) -> str:
        """Return why a verdict is not based on the adjusted ratio; "" where it is.

        What was subtracted must not be shown to be a change, must be shown to lie within the margin, as "same" is
        shown, and must not move the estimate across the margin: then no estimate is off by more than the margin. Beyond
        it, the plain ratio must show that there is any change: then identical experiments raise no more false alarms
        than without the adjustment, whatever happens to the reference.
        """
        if isinstance(self.fit, Unknown):
            return self.fit.reason
        change = _format_change(self.fit.reference)
        if self.reference_changed:
            return f"the reference operation itself changed by {change}: the change is not of the experiment alone"
        if self.fit.correction.p_within(margin) > ALPHA / 2:
            return f"the reference operation changed by {change}, which could explain more than the margin"
        if _beyond(self.fit.ratio, margin) != _beyond(self.plain, margin):
            return "only one of the plain and the adjusted ratio lies beyond the margin"
        if _beyond(self.plain, margin) and p_any_change(self.plain, self.level) > ALPHA:
            return "the plain ratio does not show that there is any change"
        return "" if self.requested else "protocol.adjust is none"

    def counts(self, margin: float) -> LogRatio:
        """Return the ratio that a verdict is based on."""
        return self.plain if isinstance(self.fit, Unknown) or self.reason_against(margin) else self.fit.ratio

    def describe(self, margin: float) -> Adjustment:
        """Return both ratios as a judgement shows them."""
        fit, reason = self.fit, self.reason_against(margin)
        return Adjustment(
            used=not reason,
            requested=self.requested,
            reference_changed=self.reference_changed,
            reason=reason,
            plain=_with_interval(self.plain),
            adjusted=None if isinstance(fit, Unknown) else _with_interval(fit.ratio),
            reference=None if isinstance(fit, Unknown) else _with_interval(fit.reference),
            slope=None if isinstance(fit, Unknown) else fit.slope,
        )


def is_requested(results: Sequence[Result]) -> bool:
    """Return whether the protocol of each result asks for the adjusted ratio."""
    return all(result.planned.protocol.adjust == "reference" for result in results)


def weigh_reference(
    metric: ComparedMetric, level: Level, baseline: ArmSessions, candidate: ArmSessions, *, requested: bool
) -> Adjusted | None:
    """Return the ratio at equal reference operation of launches or blocks; None for other metrics and levels.

    Records without reference operations, whose protocols do not ask for it either, have none.
    """
    if metric != "latency_s" or level == "session":
        return None
    bottom, top = unit_values(level, baseline, candidate)
    if (plain := unit_ratio(level, bottom, top)) is None:
        return None
    launches = [launch for sessions in (*baseline, *candidate) for launch, _ in sessions]
    if not requested and all(isinstance(launch.reference_operation, Unknown) for launch in launches):
        return None
    if reason := _reason_against_operations(launches):
        return Adjusted(level, plain, Unknown(reason=reason), requested)
    references = unit_values(level, *(_with_references(sessions) for sessions in (baseline, candidate)))
    fit = adjusted_paired_ratio if level == "block" else adjusted_welch_ratio
    ratio = fit(top, bottom, references[1], references[0])
    why = "the reference operation does not vary, or there are too few units"
    return Adjusted(level, plain, ratio or Unknown(reason=why), requested)


def look_at_blocks(
    baseline: Sequence[Timed], candidate: Sequence[Timed], margin: float, *, requested: bool
) -> tuple[int, LogRatio | None]:
    """Return how many blocks of one session are complete, and the latency ratio that a verdict is based on."""
    bottom, top = pair_blocks(baseline, candidate)
    adjusted = weigh_reference("latency_s", "block", [baseline], [candidate], requested=requested)
    return len(top), adjusted.counts(margin) if adjusted else unit_ratio("block", bottom, top)


def unit_values(
    level: Level, baseline: ArmSessions, candidate: ArmSessions
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the independent values of baseline and candidate: of blocks of all sessions, or launches of the one."""
    if level != "block":
        first, second = (tuple(value for _, value in sessions[0]) for sessions in (baseline, candidate))
        return first, second
    # The treatment changes within a session, so its blocks are the units, of however many sessions.
    blocks = [pair_blocks(a, b) for a, b in zip(baseline, candidate, strict=True)]
    first, second = (tuple(value for block in blocks for value in block[arm]) for arm in (0, 1))
    return first, second


def unit_ratio(level: Level, baseline: Sequence[float], candidate: Sequence[float]) -> LogRatio | None:
    """Return the plain ratio of independent values: paired for blocks, Welch's for launches."""
    return paired_ratio(candidate, baseline) if level == "block" else welch_ratio(candidate, baseline)


def _with_references(sessions: ArmSessions) -> list[list[Timed]]:
    """The launches with the times (s) of their reference operations; all have one."""
    return [
        [
            (launch, operation.value.typical_s)
            for launch, _ in session
            if isinstance(operation := launch.reference_operation, Known)
        ]
        for session in sessions
    ]


def _reason_against_operations(launches: Sequence[Launch]) -> str:
    """Why the reference operations of launches are no covariate: one is missing, or they are of several kinds."""
    kinds = set()
    for launch in launches:
        if not isinstance(launch.reference_operation, Known):
            return f"a launch has no reference operation: {launch.reference_operation.reason}"
        operation = launch.reference_operation.value
        kinds.add(f"{operation.name} in {operation.precision} on {operation.device}, {operation.threads} threads")
    return f"the reference operations differ: {' / '.join(sorted(kinds))}" if len(kinds) > 1 else ""


def _beyond(ratio: LogRatio, margin: float) -> int:
    """-1 below the margin, 0 within it, 1 above it."""
    edge = log1p(margin)
    return (ratio.log_value > edge) - (ratio.log_value < -edge)


def _format_change(ratio: LogRatio) -> str:
    low, high = (100 * (end - 1) for end in ratio.interval(1 - ALPHA))
    return f"{100 * (ratio.value - 1):+.2f} % [{low:+.2f} to {high:+.2f} %]"


def _with_interval(ratio: LogRatio) -> RatioInterval:
    return (ratio.value, *ratio.interval(1 - ALPHA))
