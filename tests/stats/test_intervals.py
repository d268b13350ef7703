import math
import random
from collections.abc import Sequence
from statistics import fmean, median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.stats.intervals import estimate_latency, relative_half_width

LATENCY_S = st.floats(1e-4, 1e4)
LAUNCHES = st.lists(st.lists(LATENCY_S, min_size=1, max_size=6), min_size=2, max_size=8)
QUICK = settings(deadline=None, max_examples=40)

COVERAGE_DRAWS = 20_000
LAUNCH_NOISE = 0.01
CALL_NOISE = 0.005
CALLS = 5


def t_interval_of(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return scipy's own t interval of the mean."""
    import numpy as np
    from scipy import stats

    low, high = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return float(low), float(high)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_interval_is_scipys_t_interval_of_the_logs_of_the_launch_medians(confidence: float) -> None:
    launches = [[100.0, 250.0, 101.0], [101.0], [99.0, 99.0], [100.5, 100.5, 90.0, 200.0], [99.5]]
    estimate = estimate_latency(launches, confidence)
    logs = [math.log(median(samples)) for samples in launches]
    low, high = t_interval_of(logs, confidence)
    assert estimate.value == pytest.approx(math.exp(fmean(logs)), rel=1e-9)
    assert estimate.low == pytest.approx(math.exp(low), rel=1e-9)
    assert estimate.high == pytest.approx(math.exp(high), rel=1e-9)
    assert estimate.relative_half_width == pytest.approx(math.exp((high - low) / 2) - 1, rel=1e-9)
    assert (estimate.launch_count, estimate.sample_count) == (5, 11)


def test_interval_of_paired_ratios_is_the_golden_one() -> None:
    # Golden: A = 100,101,99,100.5,99.5; B = 100.4,101.2,99.3,100.9,99.8; 90 % interval by scipy, to 1e-6.
    a = (100, 101, 99, 100.5, 99.5)
    b = (100.4, 101.2, 99.3, 100.9, 99.8)
    estimate = estimate_latency([[y / x] for x, y in zip(a, b, strict=True)], 0.90)
    assert estimate.value == pytest.approx(1.003201, abs=1e-6)
    assert estimate.low == pytest.approx(1.002403, abs=1e-6)
    assert estimate.high == pytest.approx(1.003999, abs=1e-6)


def test_calls_of_one_launch_are_not_pooled_into_more_launches() -> None:
    one = estimate_latency([[1.0, 1.1, 0.9, 1.05]], 0.95)
    assert (one.low, one.high, one.relative_half_width) == (None, None, None)
    assert one.value == pytest.approx(1.025)
    two = estimate_latency([[1.0] * 50, [1.1] * 50], 0.95)
    few = estimate_latency([[1.0], [1.1]], 0.95)
    assert (two.low, two.high) == (few.low, few.high)


def test_launches_that_agree_give_an_interval_without_width() -> None:
    estimate = estimate_latency([[2.0], [2.0], [2.0]], 0.95)
    assert estimate.low == estimate.high == pytest.approx(estimate.value)
    assert estimate.relative_half_width == 0


@pytest.mark.parametrize("launches", [[], [[]], [[1.0], []], [[1.0], [0.0]], [[1.0, -1.0]]], ids=str)
def test_no_sample_or_one_that_is_not_positive_is_refused(launches: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"at least one|not positive"):
        estimate_latency(launches, 0.95)


@pytest.mark.parametrize("samples", [(), (1.0,)])
def test_fewer_than_two_samples_have_no_half_width(samples: tuple[float, ...]) -> None:
    assert relative_half_width(samples, 0.95) is None


def test_half_width_is_that_of_the_logs() -> None:
    samples = [1.0, 1.02, 0.99, 1.01]
    low, high = t_interval_of([math.log(sample) for sample in samples], 0.95)
    assert relative_half_width(samples, 0.95) == pytest.approx(math.exp((high - low) / 2) - 1, rel=1e-9)


@QUICK
@given(LAUNCHES, st.randoms(use_true_random=False))
def test_order_of_launches_and_of_calls_does_not_matter(launches: list[list[float]], source: random.Random) -> None:
    shuffled = [source.sample(samples, len(samples)) for samples in launches]
    source.shuffle(shuffled)
    before, after = estimate_latency(launches, 0.95), estimate_latency(shuffled, 0.95)
    assert after.value == pytest.approx(before.value)
    assert after.low == pytest.approx(before.low)
    assert after.high == pytest.approx(before.high)


@QUICK
@given(LAUNCHES, st.floats(1e-3, 1e3))
def test_scaled_latencies_scale_the_estimate_and_not_its_relative_width(
    launches: list[list[float]], factor: float
) -> None:
    before = estimate_latency(launches, 0.95)
    after = estimate_latency([[sample * factor for sample in samples] for samples in launches], 0.95)
    assert after.value == pytest.approx(before.value * factor)
    assert after.relative_half_width == pytest.approx(before.relative_half_width, rel=1e-6, abs=1e-9)


@QUICK
@given(LAUNCHES)
def test_interval_contains_the_value_and_grows_with_the_confidence(launches: list[list[float]]) -> None:
    narrow, wide = estimate_latency(launches, 0.9), estimate_latency(launches, 0.99)
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low is not None
    assert wide.high is not None
    slack = 1 + 1e-12
    assert narrow.low <= narrow.value * slack
    assert narrow.value <= narrow.high * slack
    assert wide.low <= narrow.low * slack
    assert narrow.high <= wide.high * slack


@pytest.mark.slow
@pytest.mark.parametrize("launch_count", [5, 10, 20])
def test_nominal_95_percent_interval_covers_95_percent(launch_count: int) -> None:
    import numpy as np

    source = np.random.default_rng(20260727)
    covered = 0
    for _ in range(COVERAGE_DRAWS):
        launch_logs = source.normal(0.0, LAUNCH_NOISE, (launch_count, 1))
        calls_s = np.exp(launch_logs + source.normal(0.0, CALL_NOISE, (launch_count, CALLS)))
        estimate = estimate_latency(calls_s.tolist(), 0.95)
        # Both noises are symmetric in the logs, so the true value, the median, is 1.
        covered += estimate.low is not None and estimate.high is not None and estimate.low <= 1.0 <= estimate.high
    assert covered / COVERAGE_DRAWS == pytest.approx(0.95, abs=0.01)


@pytest.mark.slow
def test_nominal_95_percent_interval_of_a_ratio_covers_95_percent() -> None:
    import numpy as np

    source = np.random.default_rng(20260728)
    covered = 0
    for _ in range(COVERAGE_DRAWS):
        logs = source.normal(0.0, LAUNCH_NOISE, (2, 5, 1)) + source.normal(0.0, CALL_NOISE, (2, 5, CALLS))
        candidate, baseline = np.median(np.exp(logs), axis=2)
        estimate = estimate_latency((candidate / baseline)[:, None].tolist(), 0.95)
        covered += estimate.low is not None and estimate.high is not None and estimate.low <= 1.0 <= estimate.high
    assert covered / COVERAGE_DRAWS == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("launches", "useful"),
    [((1.0, 1.01, 1.02), True), ((1.0, 1.01), False), ((1.0, 1.5, 5.0), False), ((1.0,), False)],
)
def test_interval_is_useful_from_three_launches_on_within_a_factor_of_ten(
    launches: tuple[float, ...], useful: bool
) -> None:
    assert estimate_latency([[launch] for launch in launches], 0.95).is_useful is useful
