"""What Docker's errors mean, with the hint: the table that the shell scripts read too."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sdbench.containers.options import read_data_lines
from sdbench.errors import EnvironmentProblem

_SHOWN_CHARACTERS = 200


def explain(text: str) -> str | None:
    """Return what an output of Docker's means and what to do, or None if the table does not know it."""
    for line in read_data_lines("engine_errors.tsv"):
        pattern, _, meaning = line.partition("\t")
        if match := re.search(rf"^.*?(?:{pattern}).*$", text, re.IGNORECASE | re.MULTILINE):
            return f"{meaning} ({' '.join(match[0].split())[-_SHOWN_CHARACTERS:]})"
    return None


def as_problem(what: str, error: Exception | str) -> EnvironmentProblem:
    """Return the problem to raise for an error of Docker's: ``what`` failed, why, and the hint."""
    text = str(error)
    unknown = f"{' '.join(text.split())[:_SHOWN_CHARACTERS]}; see 'docker info' and the log of Docker's daemon"
    return EnvironmentProblem(f"{what}: {explain(text) or unknown}")


@contextmanager
def docker_problems(what: str) -> Iterator[None]:
    """Raise an error of Docker's in this block as the problem that it means.

    Raises:
        EnvironmentProblem: ``what`` failed.
    """
    from docker.errors import DockerException

    try:
        yield
    except DockerException as error:
        raise as_problem(what, error) from None
