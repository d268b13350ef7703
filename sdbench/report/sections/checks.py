"""What was asked and what ran: the evidence for trusting the figures."""

from collections import Counter

from sdbench.report.model import Cell, Section
from sdbench.report.points import Measured, Point, Source
from sdbench.report.text import cell, format_count, format_percent, make_table
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import was_throttled

TITLE = "Was it measured as asked?"
_COLUMNS = "Check|Asked|Found|Result|Evidence"
Row = tuple[Cell | str, ...]


def build(source: Source) -> Section:
    """Return the checks of all launches, counted, the failed ones first."""
    launches = [launch for point in source.points for launch in point.launches]
    if not launches:
        return Section(name="checks", title=TITLE, paragraphs=("No launch ended, so nothing was checked.",))
    passed, total = count_checks(source)
    rows = [
        *_asked_and_found(source),
        *_finite_rows(source),
        *_same_pixels_rows(source),
        *_throttle_rows(source),
        *_spread_rows(source),
    ]
    rows.sort(key=_failed_first)
    table = make_table("Checks", _COLUMNS, rows)
    sentence = f"{passed:,} of {total:,} checks of {format_count(len(launches), 'launch')} passed."
    return Section(name="checks", title=TITLE, paragraphs=(sentence,), tables=(table,))


def count_checks(source: Source) -> tuple[int, int]:
    """Return how many checks of what was asked against what ran passed, and how many there are."""
    checks = [check for point in source.points for launch in point.launches for check in launch.checks]
    return sum(check.passed for check in checks), len(checks)


def count_wide(source: Source) -> int:
    """Return how many experiments have an interval wider than their protocol asks for."""
    known = [(m, m.estimate.relative_half_width) for m in source.own if m.estimate.relative_half_width is not None]
    return sum(half_width > _asked(m) for m, half_width in known)


def _asked_and_found(source: Source) -> list[Row]:
    found = Counter(
        (check.name, check.asked, check.found, check.passed)
        for point in source.points
        for launch in point.launches
        for check in launch.checks
    )
    return [
        (name, asked, seen, _result(passed=passed), format_count(count, "launch"))
        for (name, asked, seen, passed), count in found.items()
    ]


def _finite_rows(source: Source) -> list[Row]:
    images = [image for point in source.points for launch in point.launches for image in launch.images]
    if not images:
        return []
    finite = sum(image.finite for image in images)
    evidence = format_count(len(images), "image")
    return [("finite images", "all", f"{finite} of {len(images)}", _result(passed=finite == len(images)), evidence)]


def _same_pixels_rows(source: Source) -> list[Row]:
    repeated = [point for point in source.points if sum(bool(launch.images) for launch in point.launches) > 1]
    if not repeated:
        return []
    same = sum(_pixels_are_same(point) for point in repeated)
    # Nondeterministic kernels may differ and be right: this is told, not judged.
    evidence = f"{format_count(len(repeated), 'experiment')} with several launches"
    return [
        ("same pixels in every launch", "told, not judged", f"{same} of {len(repeated)}", cell("—", "muted"), evidence)
    ]


def _pixels_are_same(point: Point) -> bool:
    return len({tuple(image.sha256 for image in launch.images) for launch in point.launches if launch.images}) == 1


def _throttle_rows(source: Source) -> list[Row]:
    launches = [launch for point in source.points for launch in point.launches]
    known = [launch for launch in launches if isinstance(launch.throttled, Known)]
    reasons = Counter(launch.throttled.reason for launch in launches if isinstance(launch.throttled, Unknown))
    rows: list[Row] = [
        ("no throttling", "none", f"unknown: {reason}", cell("unknown", "muted"), format_count(count, "launch"))
        for reason, count in reasons.items()
    ]
    if known:
        throttled = sum(map(was_throttled, known))
        found = f"{throttled} of {format_count(len(known), 'launch')} throttled"
        rows.append(("no throttling", "none", found, _result(passed=throttled == 0), "clocks and throttle reasons"))
    return rows


def _spread_rows(source: Source) -> list[Row]:
    """One row for all that are as precise as asked, and one for each that is not, or whose spread is unknown."""
    known = [(m, m.estimate.relative_half_width) for m in source.own if m.estimate.relative_half_width is not None]
    precise = [(m, half_width) for m, half_width in known if half_width <= _asked(m)]
    rows: list[Row] = []
    if precise:
        widest, half_width = max(precise, key=lambda pair: pair[1])
        found = f"{len(precise)} within; widest {format_percent(half_width)} ({_name(source, widest)})"
        asked = ", ".join(dict.fromkeys(format_percent(_asked(m)) for m, _ in precise))
        evidence = format_count(sum(m.estimate.launch_count for m, _ in precise), "launch")
        rows.append(("half-width of the intervals", f"{asked} or less", found, _result(passed=True), evidence))
    rows += [_wide_row(source, m, half_width) for m, half_width in known if half_width > _asked(m)]
    rows += [_wide_row(source, m, None) for m in source.own if m.estimate.relative_half_width is None]
    return rows


def _wide_row(source: Source, measured: Measured, half_width: float | None) -> Row:
    name, asked = f"half-width: {_name(source, measured)}", f"{format_percent(_asked(measured))} or less"
    evidence = format_count(measured.estimate.launch_count, "launch")
    if half_width is None:
        return (name, asked, "unknown: one launch has no interval", cell("unknown", "muted"), evidence)
    return (name, asked, format_percent(half_width), cell("✗ wider", "bad"), evidence)


def _asked(measured: Measured) -> float:
    return measured.point.planned.protocol.relative_half_width


def _name(source: Source, measured: Measured) -> str:
    return ", ".join(source.row_names(measured.point))


def _result(*, passed: bool) -> Cell:
    return cell("✓ pass", "good") if passed else cell("✗ fail", "bad")


def _failed_first(row: Row) -> bool:
    return not any(isinstance(item, Cell) and item.tone == "bad" for item in row)
