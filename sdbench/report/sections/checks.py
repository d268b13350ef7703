"""What was requested and what ran."""

from collections import Counter
from collections.abc import Iterator

from sdbench.report.format import cell, describe_useless_interval, format_percent, make_table, texts
from sdbench.report.model import Cell, Section
from sdbench.report.series import Measured, Point, Source
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import was_throttled
from sdbench.units import format_count

TITLE = "Was it measured as requested?"
_COLUMNS = texts("Check", "Expected", "Observed", "Result", "Evidence")
_UNKNOWN = cell("unknown", "muted")
Row = tuple[Cell | str, ...]


def build(source: Source) -> Section | str:
    """Return the checks of all launches, counted, the failed ones first."""
    if not source.launches:
        return "No launch ended, so nothing was checked."
    rows = [
        *_request_rows(source),
        *_finite_rows(source),
        *_same_pixels_rows(source),
        *_throttle_rows(source),
        *_spread_rows(source),
    ]
    rows.sort(key=lambda row: all(not isinstance(item, Cell) or item.tone != "bad" for item in row))
    passed, total = count_checks(source)
    sentence = f"{passed:,} of {total:,} checks of {format_count(len(source.launches), 'launch')} passed."
    return Section(paragraphs=(sentence,), tables=(make_table("Checks", _COLUMNS, rows),))


def count_checks(source: Source) -> tuple[int, int]:
    """Return how many checks of what was requested against what ran passed, and how many there are."""
    checks = [check for launch in source.launches for check in launch.checks]
    return sum(check.passed for check in checks), len(checks)


def wide_intervals(source: Source) -> list[tuple[Measured, float]]:
    """Return the experiments whose interval is wider than their protocol requests, with its half-width (ratio)."""
    return [(point, half_width) for point, half_width in _half_widths(source) if half_width > _requested(point)]


def _half_widths(source: Source) -> list[tuple[Measured, float]]:
    widths = ((point, point.estimate.relative_half_width) for point in source.own if not point.is_open)
    return [(point, half_width) for point, half_width in widths if half_width is not None]


def _requested(measured: Measured) -> float:
    return measured.planned.protocol.relative_half_width


def _request_rows(source: Source) -> Iterator[Row]:
    counts = Counter(
        (check.name, check.expected, check.observed, check.passed)
        for launch in source.launches
        for check in launch.checks
    )
    for (name, expected, observed, passed), count in counts.items():
        yield name, expected, observed, _result(passed=passed), format_count(count, "launch")


def _finite_rows(source: Source) -> Iterator[Row]:
    images = [image for launch in source.launches for image in launch.images]
    finite = sum(image.finite and not image.constant for image in images)
    if images:
        result, observed = _result(passed=finite == len(images)), f"{finite} of {len(images)}"
        yield "finite images, not constant", "all", observed, result, format_count(len(images), "image")


def _same_pixels_rows(source: Source) -> Iterator[Row]:
    repeated = [point for point in source.points if sum(bool(launch.images) for launch in point.launches) > 1]
    if repeated:
        # Nondeterministic kernels may differ and be right: this is informational.
        same = f"{sum(map(_pixels_are_same, repeated))} of {len(repeated)}"
        evidence = f"{format_count(len(repeated), 'experiment')} with several launches"
        yield "same pixels in every launch", "informational", same, cell("—", "muted"), evidence


def _pixels_are_same(point: Point) -> bool:
    return len({tuple(image.sha256 for image in launch.images) for launch in point.launches if launch.images}) == 1


def _throttle_rows(source: Source) -> Iterator[Row]:
    readings = [launch.throttled for launch in source.launches]
    reasons = Counter(reading.reason for reading in readings if isinstance(reading, Unknown))
    for reason, count in reasons.items():
        yield "no throttling", "none", f"unknown: {reason}", _UNKNOWN, format_count(count, "launch")
    if known_count := sum(isinstance(reading, Known) for reading in readings):
        throttled = sum(map(was_throttled, source.launches))
        observed = f"{throttled} of {format_count(known_count, 'launch')} throttled"
        yield "no throttling", "none", observed, _result(passed=throttled == 0), "clocks and throttle reasons"


def _spread_rows(source: Source) -> Iterator[Row]:
    """One row for all that are as precise as requested, and one for each that is not, or whose spread is unknown."""
    precise = [(point, half_width) for point, half_width in _half_widths(source) if half_width <= _requested(point)]
    if precise:
        widest, half_width = max(precise, key=lambda pair: pair[1])
        observed = f"{len(precise)} within; widest {format_percent(half_width)} ({source.name(widest)})"
        requested = ", ".join(dict.fromkeys(format_percent(_requested(point)) for point, _ in precise))
        evidence = format_count(sum(point.estimate.launch_count for point, _ in precise), "launch")
        yield "half-width of the intervals", f"{requested} or less", observed, _result(passed=True), evidence
    rows = [(point, format_percent(half_width), cell("✗ wider", "bad")) for point, half_width in wide_intervals(source)]
    open_points = [point for point in source.own if point.is_open]
    rows += [(point, f"unknown: {describe_useless_interval(point.estimate)}", _UNKNOWN) for point in open_points]
    for point, observed, result in rows:
        evidence = format_count(point.estimate.launch_count, "launch")
        requested = f"{format_percent(_requested(point))} or less"
        yield f"half-width: {source.name(point)}", requested, observed, result, evidence


def _result(*, passed: bool) -> Cell:
    return cell("✓ pass", "good") if passed else cell("✗ fail", "bad")
