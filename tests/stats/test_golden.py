"""Known inputs with known outputs; the source of each is in its test."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.stats.hierarchy import advise, decompose
from sdbench.stats.multiplicity import benjamini_hochberg, holm
from sdbench.stats.order_statistics import median_interval, samples_for_percentile, smallest_rank_test_p
from sdbench.stats.ratios import LogRatio, geometric_mean_ratio, paired_ratio, units_to_resolve, welch_ratio

# Kalibera & Jones 2013, the reference code libkalibera.
THREE_LEVELS = [[[9, 5], [8, 3]], [[10, 6], [7, 11]], [[1, 12], [2, 4]]]
ROUNDING = 1e-12
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_three_level_variance_is_that_of_libkalibera() -> None:
    hierarchy = decompose(THREE_LEVELS)
    assert hierarchy.mean == pytest.approx(6.5, rel=1e-9)
    assert hierarchy.s2 == pytest.approx((16.5, 31 / 12, 3.5625), rel=1e-9)
    assert hierarchy.t2 == pytest.approx((16.5, -17 / 3, 3.5625 - 31 / 24), rel=1e-9)
    assert hierarchy.half_width(0.95) == pytest.approx(4.68871, abs=1e-5)


def test_two_level_variance_is_that_of_libkalibera() -> None:
    hierarchy = decompose([[value for pair in group for value in pair] for group in THREE_LEVELS])
    assert hierarchy.s2 == pytest.approx((12.7222, 3.5625), abs=1e-4)
    assert hierarchy.t2[1] == pytest.approx(0.38194, abs=1e-4)


@pytest.mark.parametrize("data", [[[1, 2], [3]], [[1], [2]], [], [[1, 2]]])
def test_unbalanced_data_are_refused(data: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        decompose(data)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(5, None), (6, (1, 6, 0.96875)), (10, (2, 9, 0.97852)), (20, (6, 15, 0.95861))],
)
def test_median_interval_is_the_binomial_one(count: int, expected: tuple[int, int, float] | None) -> None:
    interval = median_interval(count, 0.95)
    assert interval == (None if expected is None else pytest.approx(expected, abs=1e-5))


@pytest.mark.parametrize(("count", "expected"), [(3, 0.1), (4, 0.028571428571), (5, 0.007936507937)])
def test_smallest_p_of_the_u_test_is_exact(count: int, expected: float) -> None:
    assert smallest_rank_test_p(count, count) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("percentile", "beyond", "expected"), [(0.90, 1, 64), (0.99, 0, 459), (0.99, 1, 662)])
def test_samples_for_a_percentile_are_those_of_mlperf(percentile: float, beyond: int, expected: int) -> None:
    assert samples_for_percentile(percentile, beyond) == expected


def test_adjusted_p_values_are_those_of_the_definitions() -> None:
    p_values = (0.01, 0.04, 0.03, 0.005)
    assert holm(p_values) == pytest.approx((0.03, 0.06, 0.06, 0.02), rel=1e-9)
    assert benjamini_hochberg(p_values) == pytest.approx((0.02, 0.04, 0.04, 0.02), rel=1e-9)


@given(P_VALUES)
def test_adjusting_keeps_the_order_and_lowers_nothing(p_values: list[float]) -> None:
    for adjust in (holm, benjamini_hochberg):
        adjusted = adjust(p_values)
        assert all(p <= a * (1 + ROUNDING) and a <= 1 for p, a in zip(p_values, adjusted, strict=True))
        by_size = sorted(zip(p_values, adjusted, strict=True))
        assert [a for _, a in by_size] == sorted(adjusted)
    pairs = zip(benjamini_hochberg(p_values), holm(p_values), strict=True)
    assert all(b <= h * (1 + ROUNDING) for b, h in pairs)


def test_equivalence_of_paired_ratios_is_scipys() -> None:
    # Golden: the 90 % interval [1.002403, 1.003999] lies within 2 %.
    baseline, candidate = (100, 101, 99, 100.5, 99.5), (100.4, 101.2, 99.3, 100.9, 99.8)
    ratio = paired_ratio(candidate, baseline)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.003201, abs=1e-6)
    assert ratio.interval(0.90) == pytest.approx((1.002403, 1.003999), abs=1e-6)
    assert ratio.p_within(0.02) < 0.05
    from scipy import stats

    differences = [math.log(b / a) for a, b in zip(baseline, candidate, strict=True)]
    one_sided = stats.ttest_1samp(differences, math.log1p(0.02), alternative="less").pvalue
    assert ratio.p_within(0.02) == pytest.approx(one_sided, rel=1e-9)


@given(
    st.lists(st.floats(0.5, 2), min_size=3, max_size=12),
    st.lists(st.floats(0.5, 2), min_size=3, max_size=12),
    st.floats(0.5, 0.999),
    st.floats(0.001, 0.5),
)
def test_p_values_and_intervals_agree(
    candidate: list[float], baseline: list[float], confidence: float, margin: float
) -> None:
    ratio = welch_ratio(candidate, baseline)
    assert ratio is not None
    low, high = ratio.interval(confidence)
    outside = low > 1 + margin or high < 1 / (1 + margin)
    inside = 1 / (1 + margin) < low and high < 1 + margin
    edges = min(abs(math.log(end)) - math.log1p(margin) for end in (low, high))
    if abs(edges) > 1e-9:
        assert outside == (ratio.p_beyond(margin) <= 1 - confidence)
        assert inside == (ratio.p_within(margin) <= (1 - confidence) / 2)


def test_welch_interval_is_scipys() -> None:
    from scipy import stats

    candidate, baseline = (1.02, 1.05, 1.01, 1.04), (1.0, 0.99, 1.01)
    ratio = welch_ratio(candidate, baseline)
    assert ratio is not None
    logs = [[math.log(value) for value in values] for values in (candidate, baseline)]
    low, high = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.99)
    assert ratio.interval(0.99) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-9)


def test_fewer_than_two_units_have_no_ratio() -> None:
    assert welch_ratio([1.0], [1.0, 1.1]) is None
    assert paired_ratio([1.0], [1.1]) is None
    assert geometric_mean_ratio([]) is None


def test_values_that_never_vary_are_decided_by_the_ratio_alone() -> None:
    same, slower = paired_ratio([1, 2, 4], [1, 2, 4]), paired_ratio([1.5, 3.0], [1, 2])
    assert same is not None
    assert slower is not None
    assert (same.p_within(0.02), same.p_beyond(0.02)) == (0, 1)
    assert (slower.p_within(0.02), slower.p_beyond(0.02)) == pytest.approx((1, 0), abs=1e-12)


def test_geometric_mean_of_equal_ratios_is_sharper_by_the_root_of_their_number() -> None:
    one = LogRatio(0.01, 0.02, 7)
    suite = geometric_mean_ratio([one] * 4)
    assert suite is not None
    assert (suite.log_value, suite.standard_error, suite.degrees_of_freedom) == pytest.approx((0.01, 0.01, 28))


def test_units_to_resolve_are_enough_and_one_fewer_is_not() -> None:
    ratio = LogRatio(math.log(1.03), 0.01, 5)
    units = units_to_resolve(ratio, 6, lambda guess: guess.p_beyond(0.02) <= 0.01)
    assert units is not None
    deviation = 0.01 * math.sqrt(6)
    assert LogRatio(ratio.log_value, deviation / math.sqrt(units), units - 1).p_beyond(0.02) <= 0.01
    assert LogRatio(ratio.log_value, deviation / math.sqrt(units - 1), units - 2).p_beyond(0.02) > 0.01


def test_ratio_at_the_margin_is_never_resolved() -> None:
    ratio = LogRatio(math.log(1.02), 0.01, 5)
    assert units_to_resolve(ratio, 6, lambda guess: guess.p_beyond(0.02) <= 0.01) is None


def test_ratios_beyond_all_floats_stay_numbers() -> None:
    ratio = LogRatio(1400.0, 800.0, 1)
    assert all(math.isfinite(value) for value in (ratio.value, *ratio.interval(0.99)))


def test_steady_launches_that_differ_ask_for_more_launches() -> None:
    launches = [[1.0, 1.0001, 0.9999], [1.1, 1.1001, 1.0999], [1.2, 1.2001, 1.1999]]
    advice = advise([[math.log(v) for v in calls] for calls in launches], call_s=1, launch_overhead_s=10)
    assert advice is not None
    assert (advice.spend_on, advice.calls_per_launch) == ("launches", 1)


def test_noisy_calls_in_launches_that_agree_ask_for_more_calls() -> None:
    advice = advise([[0.0, 0.2, -0.1], [0.1, -0.1, 0.1], [0.0, 0.0, 0.1]], call_s=1, launch_overhead_s=10)
    assert advice is not None
    assert advice.spend_on == "calls"
    assert advise([[0.0, 0.1]], 1, 10) is None
