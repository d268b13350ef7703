"""From the paths and queries on a command line to the runs they mean."""

import re
from collections.abc import Sequence
from pathlib import Path

from sdbench.cli.output import complain
from sdbench.errors import UserError
from sdbench.store.bundle import find_runs
from sdbench.store.layout import BISECTION_JOURNAL_NAME, FLEET_JOURNAL_NAME, JOURNAL_NAME, RECORD_NAME

_TEXT_ENDINGS = (".md", ".csv")
# SQL starts with one of these; in DuckDB also with FROM.
_SQL = re.compile(r"\s*(select|from|with)\s", re.IGNORECASE)
# A path, or SQL over the index of the results, whose column ``path`` or ``run_id`` names runs.
Place = Path | str


def read_place(text: str) -> Place:
    """Return a query if the text starts like SQL, else a path."""
    return text if _SQL.match(text) else Path(text)


def runs_at(place: Place, results: Path) -> tuple[Path, ...]:
    """Return the runs that a path or a query means; ``results`` is the folder that queries read.

    Raises:
        UserError: the query fails, names no runs, or matches none.
        EnvironmentProblem: DuckDB is not installed.
    """
    if isinstance(place, Path):
        return find_runs(place)
    from sdbench.query.queries import find_queried_runs

    return find_queried_runs(place, results)


def refuse_to_replace(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse to write over a file of another kind, which a run folder's record or journal would be.

    Raises:
        UserError: ``path`` is a file, and its name has none of the endings.
    """
    if path.is_file() and path.suffix.lower() not in endings:
        kinds = " or ".join(endings)
        raise UserError(f"--out {path} exists and is not a {kinds} file; choose another name")


def named_runs(places: Sequence[Place], results: Path = Path("results")) -> list[Path]:
    """Return the runs that paths or queries mean: a run, a folder of runs, or what SQL finds in ``results``.

    Texts next to runs are skipped, so that ``reports/reference/*`` may be written; a fleet's folder with a line, and so
    is a run that has not ended, unless it is the only one.

    Raises:
        UserError: none of the paths is a run, or a query fails.
        EnvironmentProblem: DuckDB is not installed.
    """
    named = [place for place in places if not isinstance(place, Path) or not _is_next_to_runs(place)]
    if len(named) > 1:
        named = [place for place in named if not isinstance(place, Path) or not _is_unfinished(place)]
    if not named:
        subject = ", ".join(map(str, places)) or "nothing"
        raise UserError(f"{subject} is not a run; name run folders or records")
    return [run for place in named for run in runs_at(place, results)]


def _is_unfinished(path: Path) -> bool:
    if (path / JOURNAL_NAME).is_file() and not (path / RECORD_NAME).is_file():
        complain(f"{path}: the run has not ended; skipped")
        return True
    return False


def _is_next_to_runs(path: Path) -> bool:
    for name, owner in ((FLEET_JOURNAL_NAME, "fleet"), (BISECTION_JOURNAL_NAME, "bisection")):
        if (path / name).is_file():
            complain(f"{path} is a {owner}'s folder, its runs are next to it; skipped")
            return True
    return path.suffix in _TEXT_ENDINGS and path.is_file()
