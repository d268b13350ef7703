from math import exp, log
from statistics import fmean

import pytest
from scipy import stats

from sdbench.stats.intervals import estimate_ratio, estimate_values

FAST = (1.02, 0.99, 1.0, 1.03, 0.98)
SLOW = (2.1, 2.0, 2.2, 1.9)


def test_ratio_and_interval_are_those_of_welch_on_the_logs() -> None:
    estimate = estimate_ratio(SLOW, FAST, 0.95)
    logs = [[log(value) for value in values] for values in (SLOW, FAST)]
    expected = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    assert estimate.value == pytest.approx(exp(fmean(map(log, SLOW)) - fmean(map(log, FAST))), rel=1e-12)
    assert estimate.low == pytest.approx(exp(expected.low), rel=1e-9)
    assert estimate.high == pytest.approx(exp(expected.high), rel=1e-9)


def test_swapping_numerator_and_denominator_inverts_the_ratio_and_its_interval() -> None:
    ratio, inverse = estimate_ratio(SLOW, FAST, 0.95), estimate_ratio(FAST, SLOW, 0.95)
    assert ratio.low is not None
    assert inverse.high is not None
    assert ratio.value == pytest.approx(1 / inverse.value)
    assert ratio.low == pytest.approx(1 / inverse.high)


def test_one_launch_has_a_ratio_and_no_interval() -> None:
    estimate = estimate_ratio((2.0,), FAST, 0.95)
    assert (estimate.low, estimate.high, estimate.relative_half_width) == (None, None, None)


def test_values_that_never_vary_have_an_interval_of_no_width() -> None:
    estimate = estimate_ratio((2.0, 2.0), (4.0, 4.0), 0.95)
    assert (estimate.low, estimate.value, estimate.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [(), (0.0,), (1.0, -1.0)])
def test_what_has_no_logarithm_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="only positive"):
        estimate_values(values, 0.95)
    with pytest.raises(ValueError, match="only positive"):
        estimate_ratio((1.0, 2.0), values, 0.95)
