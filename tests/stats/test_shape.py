import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.stats.change_points import find_change_points
from sdbench.stats.shape import find_drift, find_modes

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=9)


def normal_values(count: int, seed: int) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(0, 1) for _ in range(count)]


@pytest.mark.parametrize("count", [8, 12, 20, 40])
def test_one_mode_is_rarely_taken_for_two(count: int) -> None:
    splits = [find_modes(normal_values(count, seed)) for seed in range(1000)]
    assert sum(modes is not None and modes.are_two for modes in splits) <= 25


def test_two_modes_are_split_with_their_distance() -> None:
    source = random.Random(3)
    modes = find_modes([source.choice((0.0, 8.0)) + source.gauss(0, 1) for _ in range(40)])
    assert modes is not None
    assert modes.are_two
    assert modes.gap == pytest.approx(8, abs=1)


def test_one_outlier_is_no_mode() -> None:
    modes = find_modes([*normal_values(19, 1), 50.0])
    assert modes is not None
    assert not modes.are_two


def test_few_or_equal_values_have_no_modes() -> None:
    assert find_modes(normal_values(7, 1)) is None
    assert find_modes([1.5] * 20) is None


def test_drift_is_scipys_regression() -> None:
    from scipy import stats

    values = [value + 0.3 * index for index, value in enumerate(normal_values(12, 5))]
    drift = find_drift(values)
    expected = stats.linregress(range(12), values)
    assert drift is not None
    assert drift.rise == pytest.approx(expected.slope * 11)
    assert drift.p_value == pytest.approx(expected.pvalue)
    assert find_drift(values[:4]) is None


def squared_error(values: Sequence[float]) -> float:
    center = sum(values) / len(values)
    return sum((value - center) ** 2 for value in values)


@given(VALUES)
def test_change_points_are_the_cheapest_division(values: list[float]) -> None:
    """Every division is tried; the one returned costs no more, with the same penalty a level."""
    from sdbench.stats import change_points

    changes = find_change_points(values)
    steps = sorted(abs(b - a) for a, b in itertools.pairwise(values))
    middle = (steps[(len(steps) - 1) // 2] + steps[len(steps) // 2]) / 2
    deviation = middle / change_points._MEDIAN_OF_NORMAL / 2**0.5
    penalty = max(change_points._PENALTY * math.log(len(values)) * deviation**2, 1e-24)

    def cost(edges: Sequence[int]) -> float:
        bounds = [0, *edges, len(values)]
        return penalty * len(edges) + sum(squared_error(values[a:b]) for a, b in itertools.pairwise(bounds))

    every = itertools.chain.from_iterable(
        itertools.combinations(range(1, len(values)), count) for count in range(len(values))
    )
    assert cost(changes) <= min(map(cost, every)) + 1e-6


def test_planted_changes_are_detected_where_they_are() -> None:
    levels = [0.0] * 12 + [5.0] * 8 + [-3.0] * 10
    values = [level + 0.5 * noise for level, noise in zip(levels, normal_values(30, 2), strict=True)]
    assert find_change_points(values) == (12, 20)


def test_a_last_value_alone_may_be_a_new_level() -> None:
    assert find_change_points([*normal_values(15, 4), 30.0]) == (15,)


@pytest.mark.parametrize("values", [[], [1.0], [2.0] * 10])
def test_series_without_change_have_no_change_points(values: list[float]) -> None:
    assert find_change_points(values) == ()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "limit"), [(10, 0.08), (40, 0.02)])
def test_noise_alone_rarely_has_change_points(count: int, limit: float) -> None:
    count_with_changes = sum(bool(find_change_points(normal_values(count, seed))) for seed in range(5000))
    assert count_with_changes / 5000 <= limit
