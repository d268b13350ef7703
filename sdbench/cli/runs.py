"""From the paths and queries on a command line to the runs they mean."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench.cli.places import Place
from sdbench.errors import UserError
from sdbench.store.bundle import find_runs
from sdbench.store.names import FLEET_JOURNAL_NAME

_TEXT_ENDINGS = (".md", ".csv")


def runs_at(place: Place, results: Path) -> tuple[Path, ...]:
    """Return the runs that a path or a query means; ``results`` is the folder that queries look into.

    Raises:
        UserError: the query is no SQL, names no runs, or finds none.
        EnvironmentProblem: DuckDB is not installed.
    """
    if isinstance(place, Path):
        return find_runs(place)
    from sdbench.store.queries import find_queried_runs

    return find_queried_runs(place.sql, results)


def refuse_to_replace(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse to write over a file of another kind, which a run folder's record or journal would be.

    Raises:
        UserError: ``path`` is a file, and its name has none of the endings.
    """
    if path.is_file() and path.suffix.lower() not in endings:
        kinds = " or ".join(endings)
        raise UserError(f"--out {path} is there already and no {kinds} file; choose another name")


def named_runs(places: Sequence[Place], results: Path = Path("results")) -> list[Path]:
    """Return the runs that paths or queries mean: a run, a folder of runs, or what SQL finds in ``results``.

    What lies beside records is left out and named, so that ``reports/reference/*`` may be written.
    """
    runs: list[Path] = []
    for place in places:
        if isinstance(place, Path) and is_left_out(place):
            continue
        runs += runs_at(place, results)
    return runs


def is_left_out(path: Path) -> bool:
    """Return whether a path is what lies beside runs and is none, after saying so; ``results/*`` names it too."""
    if path.suffix in _TEXT_ENDINGS and not path.is_dir():
        print(f"sdbench: {path} is no record and left out", file=sys.stderr)
        return True
    if (path / FLEET_JOURNAL_NAME).is_file():
        print(f"sdbench: {path} is a fleet's folder, its runs lie beside it; left out", file=sys.stderr)
        return True
    return False
