"""The ratio at equal reference: shown, used only where both protocols ask for it, and never where it moved."""

import math
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from sdbench.compare.adjustment import Adjusted, look_at_blocks
from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.levels import time_launches
from sdbench.compare.wording import explain_adjustment, name_ratio, other_ratios
from sdbench.runner.interleave import _ArmPair
from sdbench.schema.base import Known, Unknown
from sdbench.schema.manifest import Protocol
from sdbench.schema.metrics import latency_s
from sdbench.schema.outcome import Launch, Succeeded, launches_of
from sdbench.schema.record import Record
from sdbench.stats.adjusted import AdjustedRatio
from sdbench.stats.ratios import LogRatio
from tests.compare.test_comparison import arm_of_session, run_of
from tests.records import make_launch, make_record, make_reference_operation, make_result

MARGIN = 0.02


def launches_of_arm(
    places: tuple[int, ...], *, change: float, reference_change: float, blocks: int, host: float, **operation: Any
) -> tuple[Launch, ...]:
    """Launches at these places of each block, on a host whose pace the experiment and its reference both feel."""
    random = Random("host")
    paces = [math.exp(random.gauss(0, host)) for _ in range(4 * blocks)]
    positions = [4 * block + place for block in range(blocks) for place in places]
    return tuple(
        make_launch(
            index,
            (1 + change) * paces[position] ** 1.3,
            position=position,
            started_utc=f"2026-01-15T10:{position:02d}:00Z",
            reference_operation=Known(
                value=make_reference_operation(pace=(1 + reference_change) * paces[position], **operation)
            ),
        )
        for index, position in enumerate(positions)
    )


def arm(
    name: str,
    *,
    change: float = 0.0,
    reference_change: float = 0.0,
    blocks: int = 12,
    host: float = 0.01,
    adjust: str = "reference",
    interleaved_runs: bool = False,
    **operation: Any,
) -> Record:
    launches = launches_of_arm(
        {"a": (0, 3), "b": (1, 2)}[name],
        change=change,
        reference_change=reference_change,
        blocks=blocks,
        host=host,
        **operation,
    )
    result = make_result(Succeeded(launches=launches, stop_reason="max_launches"))
    planned = result.planned.model_copy(update={"protocol": Protocol.model_validate({"adjust": adjust})})
    session = None if interleaved_runs else arm_of_session(name)
    return make_record(run_id=name, results=(result.model_copy(update={"planned": planned}),), session=session)


def judged(comparison: Comparison) -> Any:
    return comparison.experiments[0].judgements[0]


def compare(baseline: Record, candidate: Record) -> Any:
    return judged(compare_records([baseline], [candidate], MARGIN))


@pytest.mark.parametrize("runs", [False, True])
def test_verdict_uses_the_adjusted_ratio_where_both_protocols_ask_for_it(runs: bool) -> None:
    asked = [arm(name, change=change, interleaved_runs=runs) for name, change in (("a", 0.0), ("b", 0.0237))]
    judgement = compare(*asked)
    assert judgement.level == ("launch" if runs else "block")
    assert (judgement.verdict, judgement.adjustment.used, judgement.adjustment.reason) == ("slower", True, "")
    assert judgement.ratio == judgement.adjustment.adjusted[0] == pytest.approx(1.025, abs=0.004)
    assert judgement.adjustment.slope == pytest.approx(1.3, abs=0.3)
    plain = judgement.adjustment.plain
    assert plain[2] - plain[1] > 2 * (judgement.high - judgement.low)
    for first, second in (("none", "reference"), ("reference", "none"), ("none", "none")):
        adjusts = {"a": first, "b": second}
        records = [
            arm(name, change=change, interleaved_runs=runs, adjust=adjusts[name])
            for name, change in (("a", 0.0), ("b", 0.0237))
        ]
        other = compare(*records)
        assert (other.verdict, other.adjustment.used) == ("inconclusive", False)
        assert (other.ratio, other.low, other.high) == plain
        assert other.adjustment.adjusted == judgement.adjustment.adjusted
        assert other.adjustment.reason == "protocol.adjust is none"
        assert explain_adjustment(other) == ""


def test_both_ratios_are_shown_the_one_that_counts_first() -> None:
    used = compare(arm("a"), arm("b", change=0.0237))
    assert name_ratio(used) == "latency, adjusted"
    ((name, _, interval, reference),) = other_ratios(used)
    assert name == "latency, plain"
    assert interval.startswith("+1.")
    assert reference.startswith("reference ")
    unused = compare(arm("a", adjust="none"), arm("b", change=0.0237))
    assert name_ratio(unused) == "latency"
    assert [title for title, *_ in other_ratios(unused)] == ["latency, adjusted"]


def test_driver_that_slows_everything_is_not_adjusted_away_and_says_so() -> None:
    for adjust in ("reference", "none"):
        slowed = arm("b", change=1.05**1.3 - 1, reference_change=0.05, host=0.005, adjust=adjust)
        judgement = compare(arm("a", host=0.005, adjust=adjust), slowed)
        assert (judgement.verdict, judgement.adjustment.used) == ("slower", False)
        assert judgement.ratio == judgement.adjustment.plain[0]
        assert judgement.adjustment.reference_changed
        text = explain_adjustment(judgement)
        assert text.startswith("the reference operation itself changed by +5.")
        assert text.endswith("the change is not of the experiment alone; the adjusted ratio is not used")


def test_reference_that_changes_alone_makes_no_experiment_faster() -> None:
    judgement = compare(arm("a", host=0.005), arm("b", host=0.005, reference_change=0.05))
    assert judgement.adjustment.adjusted[0] < 0.97
    assert (judgement.verdict, judgement.adjustment.used) == ("same", False)


def test_reference_that_is_too_noisy_to_exclude_a_change_is_not_used() -> None:
    judgement = compare(arm("a", host=0.2), arm("b", change=0.5, host=0.2))
    assert not judgement.adjustment.used
    assert not judgement.adjustment.reference_changed
    assert "could explain more than the margin" in explain_adjustment(judgement)


def test_adjustment_never_moves_the_estimate_across_the_margin() -> None:
    used = compare(arm("a"), arm("b"))
    assert used.adjustment.used
    plain, adjusted = (ratio[0] for ratio in (used.adjustment.plain, used.adjustment.adjusted))
    assert plain > adjusted * 1.001
    # Halfway: the plain estimate is just beyond the margin, because of the host, and the adjusted one just within it.
    between = compare(arm("a"), arm("b", change=(1 + MARGIN) / math.sqrt(plain * adjusted) - 1))
    assert between.adjustment.plain[0] > 1 + MARGIN > between.adjustment.adjusted[0]
    assert not between.adjustment.used
    assert between.adjustment.reason == "only one of the plain and the adjusted ratio lies beyond the margin"


def test_reference_operations_that_differ_are_no_covariate() -> None:
    judgement = compare(arm("a"), arm("b", threads=1))
    assert judgement.adjustment.adjusted is None
    assert "the reference operations differ" in explain_adjustment(judgement)
    assert other_ratios(judgement) == ()


def without_reference(record: Record, count: int) -> Record:
    outcome = record.results[0].outcome
    assert isinstance(outcome, Succeeded)
    unknown = Unknown(reason="the library is missing")
    launches = tuple(
        launch.model_copy(update={"reference_operation": unknown}) if launch.index < count else launch
        for launch in outcome.launches
    )
    result = record.results[0].model_copy(update={"outcome": Succeeded(launches=launches, stop_reason="budget")})
    return record.model_copy(update={"results": (result,)})


def test_one_launch_without_a_reference_leaves_no_adjusted_ratio_and_says_why() -> None:
    judgement = compare(arm("a"), without_reference(arm("b", change=0.0237), 1))
    assert judgement.verdict == "inconclusive"
    assert explain_adjustment(judgement).startswith("a launch has no reference operation: the library is missing")


def test_records_without_references_have_no_adjustment_unless_it_was_asked_for() -> None:
    plain = [without_reference(arm(name, adjust="none"), 100) for name in "ab"]
    assert compare(*plain).adjustment is None
    asked = [without_reference(arm(name), 100) for name in "ab"]
    assert "no reference operation" in explain_adjustment(compare(*asked))


def test_reference_that_never_varies_is_no_covariate() -> None:
    judgement = compare(arm("a", host=0.0), arm("b", host=0.0, change=0.1))
    assert judgement.verdict == "slower"
    assert "does not vary" in judgement.adjustment.reason


def test_separate_sessions_and_other_metrics_are_not_adjusted() -> None:
    comparison = compare_records([run_of(1.0, day=1, driver="1")], [run_of(1.4, day=2, driver="2")], MARGIN)
    assert {judgement.adjustment for judgement in comparison.experiments[0].judgements} == {None}
    blocks = compare_records([arm("a")], [arm("b")], MARGIN)
    assert [item.adjustment is not None for item in blocks.experiments[0].judgements] == [True, False, False]


def test_suite_is_judged_by_the_ratios_that_count() -> None:
    asked = compare_records([arm("a")], [arm("b", change=0.0237)], MARGIN)
    assert asked.suite.ratio == judged(asked).ratio == judged(asked).adjustment.adjusted[0]


def test_a_session_looks_at_the_ratio_that_compare_judges_by() -> None:
    for adjust in ("none", "reference"):
        records = [arm("a", adjust=adjust), arm("b", change=0.0237, adjust=adjust)]
        timed = [time_launches(record.results[0].outcome.launches, latency_s) for record in records]  # type: ignore[union-attr]
        count, look = look_at_blocks(timed[0], timed[1], MARGIN, requested=adjust == "reference")
        judgement = compare(*records)
        assert look is not None
        assert count == judgement.units[0]
        assert (look.value, *look.interval(0.99)) == (judgement.ratio, judgement.low, judgement.high)


def test_ratio_beyond_the_margin_needs_a_plain_one_that_shows_any_change() -> None:
    fit = AdjustedRatio(LogRatio(0.03, 0.001, 9), LogRatio(0.0, 0.002, 10), 1.0)
    noisy, clear = (Adjusted("block", LogRatio(0.03, error, 10), fit, requested=True) for error in (0.008, 0.003))
    assert noisy.reason_against(MARGIN) == "the plain ratio does not show that there is any change"
    assert clear.reason_against(MARGIN) == ""
    within = AdjustedRatio(LogRatio(0.003, 0.001, 9), fit.reference, 1.0)
    assert Adjusted("block", LogRatio(0.003, 0.008, 10), within, requested=True).reason_against(MARGIN) == ""


def test_blocks_of_a_session_are_looked_at_as_its_protocol_asks() -> None:
    looks = {}
    for adjust in ("none", "reference"):
        results = [arm(name, change=0.0237 * (name == "b"), adjust=adjust).results[0] for name in "ab"]
        progress = [SimpleNamespace(planned=item.planned, launches=launches_of(item.outcome)) for item in results]
        pair: Any = _ArmPair((progress[0], progress[1]), ())  # type: ignore[arg-type]
        _, looks[adjust] = pair.look(MARGIN)
    assert looks["reference"].standard_error < looks["none"].standard_error / 2
