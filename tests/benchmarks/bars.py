"""One cost of sdbench itself, and the bar that it should meet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """What was measured, as people read it; ``met`` is None where that does not decide, or there is no bar."""

    name: str
    measured: str
    bar: str = ""
    met: bool | None = None


def at_most(name: str, value: float, limit: float, unit: str) -> Bar:
    """Return a result that should stay below ``limit``; both in ``unit``."""
    return Bar(name, f"{value:.3g} {unit}", f"below {limit:g} {unit}", value < limit)


def format_table(bars: list[Bar]) -> str:
    """Return the results as aligned lines: cost, measured, bar, met."""
    rows = [("cost", "measured", "bar", "met")]
    verdicts = {True: "yes", False: "no", None: "unclear"}
    rows += [(bar.name, bar.measured, bar.bar or "-", verdicts[bar.met] if bar.bar else "-") for bar in bars]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
