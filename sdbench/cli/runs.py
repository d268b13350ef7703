"""From the paths on a command line to the runs they mean."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench.errors import UserError
from sdbench.store.bundle import find_runs

_TEXT_ENDINGS = (".md", ".csv")


def refuse_to_replace(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse to write over a file of another kind, which a run folder's record or journal would be.

    Raises:
        UserError: ``path`` is a file, and its name has none of the endings.
    """
    if path.is_file() and path.suffix.lower() not in endings:
        kinds = " or ".join(endings)
        raise UserError(f"--out {path} is there already and no {kinds} file; choose another name")


def named_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the runs that paths mean: a run, or a folder of runs.

    Texts that lie beside records are left out and named, so that ``reports/reference/*`` may be written.
    """
    runs: list[Path] = []
    for path in paths:
        if path.suffix in _TEXT_ENDINGS and not path.is_dir():
            print(f"sdbench: {path} is no record and left out", file=sys.stderr)
        else:
            runs += find_runs(path)
    return runs
