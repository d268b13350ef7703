"""The quality checks: each over all experiments, and one by one those that warned."""

from collections import Counter

from sdbench.report.format import cell, make_table, numbers, texts
from sdbench.report.model import Cell, Section
from sdbench.report.series import Source
from sdbench.schema.outcome import QualityVerdict
from sdbench.units import format_count

TITLE = "Which quality checks warned?"
_CELLS: dict[QualityVerdict, Cell] = {
    "passed": cell("✓ passed", "good"),
    "warned": cell("✗ warned", "bad"),
    "not checked": cell("not checked", "muted"),
}
_COLUMNS = (*texts("Check"), *numbers("Passed", "Warned", "Not checked"), *texts("Threshold", "Source"))


def build(source: Source) -> Section | str:
    """Return one row per check, and one per warning with its evidence."""
    checked = [(point, check) for point in source.points for check in point.quality_checks]
    if not checked:
        return "No result was checked: nothing was timed."
    warnings = [
        (source.name(point), check.name, _CELLS[check.verdict], check.evidence)
        for point, check in checked
        if check.verdict == "warned"
    ]
    warned_count = len({id(point) for point, check in checked if check.verdict == "warned"})
    count = format_count(len({id(point) for point, _ in checked}), "experiment")
    sentence = f"Quality checks warned in {warned_count} of {count}. A warning changes no result."
    counts = Counter((check.name, check.verdict) for _, check in checked)
    first = {check.name: check for _, check in reversed(checked)}
    rows = (
        (name, *(str(counts[name, verdict]) for verdict in _CELLS), check.threshold, check.source)
        for name, check in sorted(first.items())
    )
    tables = [make_table("Quality checks", _COLUMNS, rows)]
    if warnings:
        tables.insert(0, make_table("Warnings", texts("Experiment", "Check", "Result", "Evidence"), warnings))
    return Section(paragraphs=(sentence,), tables=tuple(tables))
