"""The order of blocks: by chance, but in step with nothing periodic."""

import math
from collections.abc import Callable
from random import Random

import pytest

from sdbench.compare.policy import draw_image_order, draw_session_order

ORDERS = [draw_session_order(Random(seed)) for seed in range(200)]

PATTERNS: dict[str, Callable[[int], float]] = {
    "constant": lambda _: 1.0,
    "alternating": lambda block: (-1.0) ** block,
    "in pairs": lambda block: (-1.0) ** (block // 2),
    **{
        f"sine of {period} blocks": lambda block, period=period: math.sin(2 * math.pi * (block + 0.3) / period)  # type: ignore[misc]
        for period in (2.5, 3, 4, 5)
    },
}


@pytest.mark.parametrize("name", PATTERNS)
def test_no_order_follows_a_pattern(name: str) -> None:
    pattern = [PATTERNS[name](block) for block in range(60)]
    for order in ORDERS:
        for count in range(7, 61):
            agreement = sum(sign * value for sign, value in zip(order[:count], pattern, strict=False))
            assert abs(agreement) < 0.9 * sum(map(abs, pattern[:count])), (order, count)


def test_no_order_follows_noise_in_every_fifth_launch() -> None:
    launches = [launch % 5 == 0 for launch in range(240)]
    blocks = [sum(w * x for w, x in zip((-1, 1, 1, -1), launches[4 * n : 4 * n + 4], strict=True)) for n in range(60)]
    for order in ORDERS:
        for count in range(14, 61):
            agreement = sum(sign * value for sign, value in zip(order[:count], blocks, strict=False))
            assert abs(agreement) < 0.95 * sum(map(abs, blocks[:count]))


def test_orders_are_many_and_either_arm_comes_first() -> None:
    assert len({order[:7] for order in ORDERS}) >= 32
    first = [order[0] for order in ORDERS]
    assert 60 <= first.count(1) <= 140


def test_a_seed_repeats_its_order() -> None:
    assert draw_session_order(Random(5)) == ORDERS[5]


def test_three_blocks_of_images_neither_agree_nor_alternate() -> None:
    beginnings = {draw_image_order(Random(seed))[:3] for seed in range(200)}
    assert beginnings == {(1, 1, -1), (1, -1, -1), (-1, -1, 1), (-1, 1, 1)}
