"""What speaks against a figure: each trust check over all experiments, the doubts one by one."""

from collections import Counter

from sdbench.report.model import Cell, Section
from sdbench.report.points import Point, Source
from sdbench.report.text import cell, format_count, make_table
from sdbench.schema.outcome import TrustCheck

TITLE = "What speaks against these figures?"
_TONES = {"good": cell("✓ good", "good"), "doubtful": cell("✗ doubtful", "bad"), "unknown": cell("unknown", "muted")}


def build(source: Source) -> Section:
    """Return one row per check, and one per doubt with its evidence."""
    checked = [(point, check) for point in source.points for check in point.trust]
    if not checked:
        text = "No result was checked: nothing was timed, or the record is of a version before the checks."
        return Section(name="doubts", title=TITLE, paragraphs=(text,))
    doubtful = [(point, check) for point, check in checked if check.verdict == "doubtful"]
    with_doubts = len({id(point) for point, _ in doubtful})
    sentence = (
        f"{with_doubts} of {format_count(sum(bool(point.trust) for point in source.points), 'experiment')} have a "
        "reason to doubt them. A doubt changes no figure."
    )
    tables = [make_table("Trust checks", "Check|#Good|#Doubtful|#Unknown|Threshold|Source", _counts(checked))]
    if doubtful:
        rows = [_doubt(source, point, check) for point, check in doubtful]
        tables.insert(0, make_table("Doubts", "Experiment|Check|Result|Evidence", rows))
    return Section(name="doubts", title=TITLE, paragraphs=(sentence,), tables=tuple(tables))


def _doubt(source: Source, point: Point, check: TrustCheck) -> tuple[Cell | str, ...]:
    return ", ".join(source.row_names(point)), check.name, _TONES[check.verdict], check.evidence


def _counts(checked: list[tuple[Point, TrustCheck]]) -> list[tuple[str, ...]]:
    counts: Counter[tuple[str, str]] = Counter((check.name, check.verdict) for _, check in checked)
    first = {check.name: check for _, check in reversed(checked)}
    return [
        (name, *(str(counts[name, verdict]) for verdict in _TONES), check.threshold, check.source)
        for name, check in sorted(first.items())
    ]
