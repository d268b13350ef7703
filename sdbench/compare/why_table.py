"""The reasons of a comparison as every output shows them: which experiments first, and the rows of their tables."""

from sdbench.compare.comparison import Comparison, ExperimentComparison
from sdbench.compare.why import Why
from sdbench.units import format_count

WHY_COLUMNS = ("phase", "operator", "calls", "before", "after", "change", "share")
_MS_PER_S = 1e3


def find_changed(comparison: Comparison) -> tuple[ExperimentComparison, ...]:
    """Return the experiments that are slower or faster, the slower first, then those that changed most."""
    changed = [item for item in comparison.experiments if item.why.status != "nothing"]
    ratios = {item.experiment_id: item.judgements[0].ratio or 1.0 for item in changed}
    return tuple(sorted(changed, key=lambda item: (ratios[item.experiment_id] < 1, -_size(ratios[item.experiment_id]))))


def describe_unchanged(comparison: Comparison) -> str:
    """Return that there is nothing to explain, of the only experiment or of how many; "" where all changed."""
    others = [item for item in comparison.experiments if item.why.status == "nothing"]
    if len(comparison.experiments) == 1:
        return others[0].why.sentence if others else ""
    return (
        f"Nothing to explain in {format_count(len(others), 'experiment')} without a shown difference." if others else ""
    )


def make_why_rows(why: Why) -> list[tuple[str, ...]]:
    """Return the rows of an experiment's table as texts: the operators that changed most, all others, and the sum."""
    rows: list[tuple[str, ...]] = [
        (
            part.phase,
            part.name,
            part.calls,
            _format_ms(part.before_s),
            _format_ms(part.after_s),
            f"{_MS_PER_S * part.change_s:+.2f} ms",
            format_share(part.share),
        )
        for part in why.rows
    ]
    if why.others_s:
        share = format_share(why.others_s / why.difference_s)
        rows.append(("", "all others", "", "", "", f"{_MS_PER_S * why.others_s:+.2f} ms", share))
    if why.before_s is not None and why.after_s is not None:
        change = f"{_MS_PER_S * why.difference_s:+.2f} ms"
        rows.append(("", "the call", "", _format_ms(why.before_s), _format_ms(why.after_s), change, "100 %"))
    return rows


def format_share(share: float) -> str:
    """Return a share of a difference in whole percent."""
    return f"{round(100 * share)} %"


def _format_ms(seconds: float) -> str:
    return f"{_MS_PER_S * seconds:.2f} ms"


def _size(ratio: float) -> float:
    return max(ratio, 1 / ratio)
