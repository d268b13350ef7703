import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.errors import UserError
from sdbench.units import format_bytes, format_duration, parse_duration_s, round_significant


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [("90", 90), ("90s", 90), ("1.5h", 5400), ("20m", 1200), ("20min", 1200), ("250ms", 0.25), (" 3 s ", 3)],
)
def test_duration_is_read_in_every_unit(text: str, duration_s: float) -> None:
    assert parse_duration_s(text) == pytest.approx(duration_s)


@pytest.mark.parametrize("text", ["", "s", "-3s", "0", "0.0h", "1e3", "3d", "1h30m", "nan", "inf", "3 s s", "1..5s"])
def test_what_is_no_positive_duration_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UserError, match="invalid duration") as caught:
        parse_duration_s(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0.00034, "0.340 ms"),
        (0.34, "340 ms"),
        (0.9999, "1.00 s"),
        (2.514, "2.51 s"),
        (9.999, "10.0 s"),
        (61.25, "61.2 s"),
        (245.4, "4 m 05 s"),
        (3600, "60 m 00 s"),
    ],
)
def test_duration_is_written_as_people_read_it(duration_s: float, text: str) -> None:
    assert format_duration(duration_s) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0.0 B"),
        (512, "512 B"),
        (1024, "1.00 KiB"),
        (3.2 * 2**30, "3.20 GiB"),
        (5 * 2**40, "5.00 TiB"),
        (9 * 2**50, "9216 TiB"),
    ],
)
def test_size_is_written_in_binary_units(size_bytes: float, text: str) -> None:
    assert format_bytes(size_bytes) == text


@settings(deadline=None)
@given(st.floats(1e-6, 1e9), st.integers(1, 6))
def test_rounding_keeps_the_digits_asked_for_and_never_an_exponent(value: float, digits: int) -> None:
    text = round_significant(value, digits)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.5000001 * 10 ** (1 - digits))
    if "." in text:
        assert len(text.replace(".", "").lstrip("0")) == digits


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0"), (float("inf"), "inf"), (123456.0, "123456"), (-0.05, "-0.0500")]
)
def test_rounding_leaves_whole_digits_and_what_is_no_number(value: float, text: str) -> None:
    assert round_significant(value, 3) == text
