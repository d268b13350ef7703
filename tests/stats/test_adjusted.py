"""Ratios at equal reference: against least squares by scipy and numpy, and where they have no answer."""

from collections.abc import Callable, Sequence
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sdbench.stats.adjusted import AdjustedRatio, adjusted_paired_ratio, adjusted_welch_ratio
from sdbench.stats.ratios import paired_ratio, welch_ratio

Adjust = Callable[
    [Sequence[float], Sequence[float], Sequence[float], Sequence[float]],
    AdjustedRatio | None,
]
BOTH = (adjusted_paired_ratio, adjusted_welch_ratio)
COUNT = 8


def draw(seed: int, *, slope: float = 1.3, change: float = 0.0, count: int = COUNT) -> tuple[list[float], ...]:
    """Values of candidate and baseline that their references explain in part, then the references."""
    random = np.random.default_rng(seed)
    host = random.normal(0, 0.05, (2, count))
    values = slope * host + random.normal(0, 0.02, (2, count))
    arms = np.exp(values[0] + change), np.exp(values[1]), 0.04 * np.exp(host[0]), 0.04 * np.exp(host[1])
    return tuple(arm.tolist() for arm in arms)


def test_paired_ratio_is_the_intercept_of_the_regression_of_differences() -> None:
    data = draw(1, change=0.02)
    adjusted = adjusted_paired_ratio(*data)
    y, x = (np.log(a) - np.log(b) for a, b in (data[:2], data[2:]))
    expected = stats.linregress(x, y)
    assert adjusted is not None
    assert adjusted.slope == pytest.approx(expected.slope)
    assert adjusted.ratio.log_value == pytest.approx(expected.intercept)
    assert adjusted.ratio.standard_error == pytest.approx(expected.intercept_stderr)
    assert adjusted.ratio.degrees_of_freedom == COUNT - 2
    assert adjusted.reference == paired_ratio(*data[2:])


def test_ratio_of_arms_is_that_of_least_squares_where_the_arms_vary_equally() -> None:
    _, values, _, references = draw(2)
    candidate = [value * exp(0.03) for value in reversed(values)]
    own_references = [reference * exp(0.01) for reference in reversed(references)]
    adjusted = adjusted_welch_ratio(candidate, values, own_references, references)
    arm = [1.0] * COUNT + [0.0] * COUNT
    design = np.column_stack([np.ones(2 * COUNT), arm, np.log([*own_references, *references])])
    y = np.log([*candidate, *values])
    coefficients, squares, *_ = np.linalg.lstsq(design, y)
    variance = squares[0] / (2 * COUNT - 3) * np.linalg.inv(design.T @ design)[1, 1]
    assert adjusted is not None
    assert adjusted.slope == pytest.approx(coefficients[2])
    assert adjusted.ratio.log_value == pytest.approx(coefficients[1])
    assert adjusted.ratio.standard_error == pytest.approx(variance**0.5)
    assert adjusted.ratio.degrees_of_freedom == pytest.approx(2 * COUNT - 3)
    assert adjusted.reference == welch_ratio(own_references, references)


def test_slope_is_that_within_the_arms_so_that_a_difference_between_them_does_not_enter_it() -> None:
    data = draw(3)
    moved = [value * 1.5 for value in data[2]]
    first, second = adjusted_welch_ratio(*data), adjusted_welch_ratio(data[0], data[1], moved, data[3])
    assert first is not None
    assert second is not None
    assert second.slope == pytest.approx(first.slope)
    assert second.correction.log_value - first.correction.log_value == pytest.approx(first.slope * log(1.5))
    # The further apart the references are, the more the error of the slope counts.
    assert second.ratio.standard_error > 2 * first.ratio.standard_error


@pytest.mark.parametrize("adjust", BOTH)
@given(seed=st.integers(0, 2**32 - 1), change=st.floats(-0.5, 0.5))
def test_swapping_the_arms_inverts_the_ratio(adjust: Adjust, seed: int, change: float) -> None:
    a, b, x_a, x_b = draw(seed, change=change)
    one, other = adjust(a, b, x_a, x_b), adjust(b, a, x_b, x_a)
    assert one is not None
    assert other is not None
    assert one.ratio.log_value == pytest.approx(-other.ratio.log_value)
    assert one.ratio.standard_error == pytest.approx(other.ratio.standard_error)
    assert one.slope == pytest.approx(other.slope)


@pytest.mark.parametrize("adjust", BOTH)
@given(seed=st.integers(0, 2**32 - 1), unit=st.floats(1e-6, 1e6))
def test_unit_of_the_reference_does_not_matter(adjust: Adjust, seed: int, unit: float) -> None:
    a, b, x_a, x_b = draw(seed)
    one, other = adjust(a, b, x_a, x_b), adjust(a, b, [unit * x for x in x_a], [unit * x for x in x_b])
    assert one is not None
    assert other is not None
    assert other.ratio.log_value == pytest.approx(one.ratio.log_value, abs=1e-9)
    assert other.ratio.standard_error == pytest.approx(one.ratio.standard_error)


@pytest.mark.parametrize("adjust", BOTH)
def test_what_the_reference_explains_entirely_is_removed(adjust: Adjust) -> None:
    references = [1.0, 1.1, 0.95, 1.02], [1.01, 0.97, 1.2, 1.04]
    candidate, baseline = ([factor * x**1.5 for x in arm] for factor, arm in zip((1.1, 1.0), references, strict=True))
    adjusted = adjust(candidate, baseline, *references)
    assert adjusted is not None
    assert adjusted.ratio.value == pytest.approx(1.1)
    assert adjusted.ratio.standard_error == pytest.approx(0, abs=1e-12)
    assert adjusted.slope == pytest.approx(1.5)


@pytest.mark.parametrize("adjust", BOTH)
def test_constant_reference_and_too_few_units_have_no_adjusted_ratio(adjust: Adjust) -> None:
    a, b, x_a, x_b = draw(4)
    constant = [0.04, 0.04 * (1 + 1e-12)] * (COUNT // 2)
    assert adjust(a, b, constant, constant) is None
    assert adjust(a[:2], b[:2], x_a[:2], x_b[:2]) is None
    assert adjust(a[:3], b[:3], x_a[:3], x_b[:3]) is not None
    assert adjust([], [], [], []) is None


@pytest.mark.parametrize("adjust", BOTH)
def test_values_without_their_references_are_refused(adjust: Adjust) -> None:
    a, b, x_a, x_b = draw(5)
    with pytest.raises(ValueError, match=r"references|argument"):
        adjust(a, b, x_a[:-1], x_b[:-1])
    with pytest.raises(ValueError, match="positive"):
        adjust(a, b, [0.0, *x_a[1:]], x_b)
