"""Conversion and rounding between SI base units and what people read."""

import re
from math import isfinite

from sdbench.errors import UserError

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|min|h)?")
_RATIO = re.compile(r"(?P<number>\d{1,10}(?:\.\d{1,20})?)\s*(?P<percent>%)?")
_SECONDS_PER_UNIT = {"ms": 1e-3, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTE_STEP, _DECIMAL_STEP = 1024.0, 1000.0


def parse_duration_s(text: str) -> float:
    """Return the duration (s) written as ``90``, ``90s``, ``20m`` or ``1.5h``.

    Raises:
        UserError: the text is not a positive duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match["number"]) <= 0:
        raise UserError(f"invalid duration {text!r}: expected for example 90s, 20m or 1.5h")
    return float(match["number"]) * _SECONDS_PER_UNIT[match["unit"]]


def printable(text: str) -> str:
    """Return a text of one line that cannot control a terminal: what is not printable is shown as its code."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def parse_ratio(text: str, name: str) -> float:
    """Return the ratio (0.02) written as ``2%`` or ``0.02``, above 0 and below 1; ``name`` is for the message.

    Raises:
        UserError: the text is not such a ratio.
    """
    match = _RATIO.fullmatch(text.strip())
    ratio = float(match["number"]) / (100.0 if match["percent"] else 1.0) if match else 0.0
    if not 0 < ratio < 1:
        raise UserError(f"invalid {name} {text!r}: expected a fraction such as 2% or 0.02")
    return ratio


def format_count(count: int, noun: str) -> str:
    """Return ``1 launch``, ``3 launches``, ``2 samples``."""
    plural = noun + ("es" if noun.endswith(("ch", "s")) else "s")
    return f"{count:,} {noun if count == 1 else plural}"


def format_duration(duration_s: float) -> str:
    """Return a duration (s) as people read it: ``340 ms``, ``2.51 s``, ``4 m 05 s``, ``3 h 20 m``, ``35 d 11 h``."""
    if duration_s < 0.9995:  # noqa: PLR2004 - what rounds to 1000 ms is a second
        return f"{round_significant(duration_s * 1e3, 3)} ms"
    if duration_s < 100.0:  # noqa: PLR2004 - from here seconds alone read badly
        return f"{round_significant(duration_s, 3)} s"
    for first, second, unit_s in (("d", "h", 3600), ("h", "m", 60)):
        whole, rest = divmod(round(duration_s / unit_s), 24 if first == "d" else 60)
        if whole > 1:
            return f"{whole} {first} {rest:02d} {second}"
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes} m {seconds:02d} s"


def format_clock(duration_s: float) -> str:
    """Return a duration (s) as a clock shows it: ``0:07``, ``4:30``, ``1:02:05``."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def format_bytes(size_bytes: float) -> str:
    """Return a size in binary units: ``512 B``, ``3.2 GiB``."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < _BYTE_STEP:
            return f"{round_significant(value, 3)} {unit}"
        value /= _BYTE_STEP
    return f"{round_significant(value, 3)} TiB"


def format_rate(per_s: float, unit: str) -> str:
    """Return a rate (1/s) in decimal units: ``350 GFLOP/s``, ``1.94 TB/s``."""
    value = per_s
    for prefix in ("", "K", "M", "G"):
        if abs(value) < 999.5:  # noqa: PLR2004 - what rounds to 1000 has the next unit
            return f"{round_significant(value, 3)} {prefix}{unit}"
        value /= _DECIMAL_STEP
    return f"{round_significant(value, 3)} T{unit}"


def round_significant(value: float, digits: int) -> str:
    """Return ``value`` rounded to ``digits`` significant digits, never in exponent form."""
    if value == 0 or not isfinite(value):
        return str(value)
    # The exponent after rounding: 9.999 with three digits is 10.0, not 10.00.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:.{max(0, digits - 1 - exponent)}f}"
