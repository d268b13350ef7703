"""The report in short for a terminal: the four answers, and the verdicts of the first two runs."""

from sdbench.report.model import CompareSection, ReportView, SummarySection, Tone

_STYLES: dict[Tone, str] = {
    "plain": "bold",
    "good": "bold green",
    "warn": "bold yellow",
    "bad": "bold red",
    "muted": "dim",
}
_ROWS = 30


def print_report(view: ReportView) -> None:
    """Print what ``format_markdown`` writes but the reasons of verdicts, in colours where the terminal has them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(Text(view.title, style="bold"))
    console.print(Text(view.subtitle, style="dim"))
    if view.warning:
        console.print(Text(view.warning, style="red"))
    for section in view.sections:
        if isinstance(section, SummarySection):
            console.print(Text(f"\n{section.headline}", style=_STYLES[section.tone]))
            for line in section.lead:
                console.print(Text(line), soft_wrap=True)
            for card in section.cards:
                console.print()
                console.print(Text(f"{card.question} ", style="dim") + Text(card.answer, style=_STYLES[card.tone]))
                for line in (*card.lines, *card.commands):
                    console.print(Text(f"  {line}"), soft_wrap=True)
        if isinstance(section, CompareSection):
            pair = section.pairs[0]
            console.print()
            console.print(Text(pair.title, style="bold"))
            console.print(Text(pair.answer, style=_STYLES[pair.tone]))
            table = Table(box=None, pad_edge=False)
            # The last column explains at length, and is the page's.
            for column in pair.verdicts.columns[:-1]:
                table.add_column(Text(column.title), justify="right" if column.numeric else "left", overflow="fold")
            for row in pair.verdicts.rows[:_ROWS]:
                styles = (_STYLES[cell.tone].removeprefix("bold").strip() for cell in row)
                table.add_row(*(Text(cell.text, style=style) for cell, style in zip(row[:-1], styles, strict=False)))
            console.print(table)
            if (more := len(pair.verdicts.rows) - _ROWS) > 0:
                console.print(f"{more} more rows in the report")
