"""Intervals in words: one that says nothing is not quoted."""

from typing import Any

import pytest

from sdbench.compare.policy import Judgement
from sdbench.compare.wording import format_interval, has_useful_interval


def make_judgement(low: float | None, high: float | None, **changes: Any) -> Judgement:
    given: dict[str, Any] = {
        "metric": "latency_s",
        "verdict": "inconclusive",
        "ratio": 1.36,
        "low": low,
        "high": high,
        "level": "launch",
        "units": (6, 6),
        "p_value": None,
        "adjusted_p_value": None,
        "false_discovery_p_value": None,
        "reasons": (),
        "more_units": None,
        "more_runs": None,
        "more_s": None,
        "adjustment": None,
        "cycles": None,
    }
    return Judgement(**{**given, **changes})


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        (make_judgement(1.01, 1.05), "+1.00 to +5.00 %"),
        (make_judgement(None, None), "none"),
        (make_judgement(8.6e-19, 2.2e18, units=(2, 2)), "too few launches"),
        (make_judgement(0.9, 1.1, units=(2, 6)), "too few launches"),
        (make_judgement(0.9, 1.1, units=(2, 2), level="block"), "too few blocks"),
        (make_judgement(1.94, 281.6), "at least 1.94 times"),
        (make_judgement(0.01, 0.5), "at most 0.500 times"),
        (make_judgement(0.1, 9.0), "too wide to be useful"),
        (make_judgement(0.9, 1.1, units=(1, 1), level="session"), "-10.00 to +10.00 %"),
    ],
)
def test_interval_of_too_few_units_or_beyond_tenfold_is_not_quoted(judgement: Judgement, words: str) -> None:
    assert format_interval(judgement) == words
    assert has_useful_interval(judgement) == ("%" in words)
