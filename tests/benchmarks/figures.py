"""A figure of sdbench's own cost, beside the bar it should meet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What was measured, as people read it; ``met`` is None where it cannot be told, or where there is no bar."""

    name: str
    measured: str
    bar: str = ""
    met: bool | None = None


def at_most(name: str, value: float, limit: float, unit: str) -> Figure:
    """Return a figure that should stay below ``limit``; both in ``unit``."""
    return Figure(name, f"{value:.3g} {unit}", f"below {limit:g} {unit}", value < limit)


def format_table(figures: list[Figure]) -> str:
    """Return the figures as aligned lines: figure, measured, bar, met."""
    rows = [("figure", "measured", "bar", "met")]
    verdicts = {True: "yes", False: "no", None: "unclear"}
    rows += [
        (figure.name, figure.measured, figure.bar or "-", verdicts[figure.met] if figure.bar else "-")
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
