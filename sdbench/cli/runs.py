"""From the paths and queries on a command line to the runs they mean."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench.cli.places import Place
from sdbench.errors import UserError
from sdbench.store.bundle import find_runs

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

    Texts that lie beside records are left out and named, so that ``reports/reference/*`` may be written.
    """
    runs: list[Path] = []
    for place in places:
        if isinstance(place, Path) and place.suffix in _TEXT_ENDINGS and not place.is_dir():
            print(f"sdbench: {place} is no record and left out", file=sys.stderr)
        else:
            runs += runs_at(place, results)
    return runs
