"""What Docker's errors mean, with the remedy: the table that the shell scripts read too."""

import re

from sdbench.errors import EnvironmentProblem
from sdbench.launch.options import read_data_lines

PROBLEMS_FILE = "problems.tsv"
_SHOWN_CHARACTERS = 200


def explain(text: str) -> str | None:
    """Return what an output of Docker's means and what to do, or None if the table does not know it."""
    for line in read_data_lines(PROBLEMS_FILE):
        pattern, _, meaning = line.partition("\t")
        if match := re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return f"{meaning} ({_line_around(text, match.start())})"
    return None


def as_problem(what: str, error: Exception | str) -> EnvironmentProblem:
    """Return the problem to raise for an error of Docker's: ``what`` failed, why, and the remedy."""
    text = str(error)
    return EnvironmentProblem(f"{what}: {explain(text) or ' '.join(text.split())[:_SHOWN_CHARACTERS]}")


def _line_around(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return " ".join(text[start : len(text) if end < 0 else end].split())[-_SHOWN_CHARACTERS:]
