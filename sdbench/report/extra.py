"""The ``report`` extra: libraries that draw and write pages, imported where they are used."""

from collections.abc import Iterator
from contextlib import contextmanager

from sdbench.errors import EnvironmentProblem


@contextmanager
def report_extra() -> Iterator[None]:
    """Import libraries of the extra within this context.

    Raises:
        EnvironmentProblem: one of them is not installed.
    """
    try:
        yield
    except ImportError as error:
        msg = f"a report needs {error.name!r}, which is not installed; install the extra: pip install 'sdbench[report]'"
        raise EnvironmentProblem(msg) from None
