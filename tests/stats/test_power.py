from math import log, log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.compare.resolution import LOOKS
from sdbench.stats.noise import NOISE_MODELS
from sdbench.stats.power import block_deviation, smallest_changes
from tests.benchmarks.resolution import HIGH, LOW, MODELS, detected_share

TRIALS = 1000
# A thousand trials err by 0.013.
ERROR = 0.013


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("launches", "blocks"), [(8, 7), (20, 60)])
def test_promised_power_is_reached(name: str, launches: int, blocks: int) -> None:
    share = detected_share(NOISE_MODELS[name], TRIALS, launches, blocks)
    assert share >= LOW - ERROR
    # Two modes are found more often than promised.
    assert share <= HIGH + ERROR or name.startswith("two modes")


def test_block_deviation_of_alternating_launches_is_that_of_their_contrast() -> None:
    estimate = block_deviation([0.0, 0.1] * 6)
    assert estimate is not None
    assert estimate[0] == pytest.approx(0.0, abs=1e-12)
    estimate = block_deviation([0.0, 0.0, 0.1, 0.1] * 3)
    assert estimate is not None
    # Of nine windows five are like 0 0 1 1, without a contrast, and four like 0 1 1 0, with one of 0.1.
    assert estimate[0] == pytest.approx((4 / 9) ** 0.5 * 0.1, rel=0.01)


def test_linear_drift_is_no_deviation() -> None:
    estimate = block_deviation([0.01 * index for index in range(8)])
    assert estimate is not None
    assert estimate[0] == pytest.approx(0.0, abs=1e-12)


def test_fewer_than_six_launches_give_no_promise() -> None:
    assert block_deviation([0.0] * 5) is None
    assert block_deviation([0.0] * 6) is not None


def test_degrees_of_freedom_rise_with_the_launches_and_stay_below_them() -> None:
    freedoms = [estimate[1] for count in (6, 8, 20, 100) if (estimate := block_deviation([log(2)] * count))]
    assert freedoms == sorted(freedoms)
    assert [round(freedom, 1) for freedom in freedoms[:2]] == [2.4, 3.4]
    assert freedoms[-1] < 97


def test_no_noise_leaves_the_margin() -> None:
    assert smallest_changes(0.0, 5.0, LOOKS)[-1] == pytest.approx(0.02)


@given(st.floats(0.001, 0.2), st.floats(2, 50))
def test_more_blocks_and_less_noise_detect_smaller_changes(deviation: float, freedom: float) -> None:
    changes = smallest_changes(deviation, freedom, LOOKS)
    assert list(changes) == sorted(changes, reverse=True)
    assert changes[0] < smallest_changes(1.5 * deviation, freedom, LOOKS)[0]
    assert changes[-1] > 0.02
    assert changes[-1] < smallest_changes(deviation, freedom, LOOKS, power=0.9)[-1]


def test_known_deviation_agrees_with_the_noncentral_t_of_a_single_look() -> None:
    from dataclasses import replace

    from scipy.special import nctdtr, stdtrit

    # At a single look, and where the margin decides nothing, the p of any change is that of a t test.
    look = replace(LOOKS, first=10, edge=-1.0)
    (change,) = smallest_changes(0.05, 1e9, replace(look, last=10), power=0.8)
    critical = float(stdtrit(9, 1 - look.alpha_of_any_change / 2))
    assert 1 - nctdtr(9, log1p(change) * 10**0.5 / 0.05, critical) == pytest.approx(0.8, abs=0.015)
