"""How the reasons of a comparison are printed: a sentence, and with ``--why`` a table per experiment that changed."""

from sdbench.cli.output import make_table, open_console, print_wrapped
from sdbench.compare.comparison import Comparison
from sdbench.compare.why import Why
from sdbench.compare.why_table import WHY_COLUMNS, describe_unchanged, find_changed, make_why_rows
from sdbench.units import format_count

# Without ``--why``, of a suite only those that changed most.
_SENTENCES = 3
_TABLES = 10


def print_why(comparison: Comparison, *, with_tables: bool) -> None:
    """Print why experiments changed, those that changed most first; the others in one line."""
    changed = find_changed(comparison)
    shown = changed[: _TABLES if with_tables else _SENTENCES]
    for item in shown:
        label = f"{item.label}: " if len(comparison.experiments) > 1 else ""
        print_wrapped(f"why: {label}{item.why.sentence}", "yellow" if item.why.status == "not explained" else "")
        if with_tables:
            _print_details(item.why)
    if with_tables and len(changed) > len(shown):
        print_wrapped(f"why: {format_count(len(changed) - len(shown), 'smaller change')}: see --json or the report")
    if with_tables and (unchanged := describe_unchanged(comparison)):
        print_wrapped(f"why: {unchanged}")


def _print_details(why: Why) -> None:
    if why.rows:
        console = open_console(150)
        console.print(make_table(WHY_COLUMNS, make_why_rows(why), right=WHY_COLUMNS[2:]))
    for remark in why.remarks:
        print_wrapped(f"  {remark}")
