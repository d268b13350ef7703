"""The report of one or more runs as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from sdbench.report.prices import NO_PRICES, Prices
from sdbench.report.render import write_view
from sdbench.report.view import build_view
from sdbench.store.run import Run, load_run


def write_report(
    runs: Sequence[Run | Path | str], path: Path | str, prices: Prices = NO_PRICES, *, with_references: bool = True
) -> Path:
    """Write the report of one or more runs to ``path``, whole or not at all, and return the path.

    Args:
        runs: in the order in which their machines are shown; a path is loaded first.
        path: the HTML file; an older one is replaced.
        prices: what the machines cost.
        with_references: show the 2022 study's machines next to the runs, where they answer one question.

    Raises:
        UserError: there is no run, the same one twice, or the prices' names match no machine.
        RecordError: a run is invalid.
        EnvironmentProblem: the ``report`` extra is not installed, or the file cannot be written.
    """
    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    return write_view(build_view(loaded, prices, with_references=with_references), Path(path))
