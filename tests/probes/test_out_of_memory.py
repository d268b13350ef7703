"""What the libraries say when memory ran out; each text of the table has its class and where it comes from."""

import errno
from pathlib import Path

import pytest

from sdbench.probes.out_of_memory import where_memory_ran_out

# After a smaller batch ran: oneDNN computes on the host, all others in the table on the GPU.
TEXTS = [line.split("\t") for line in (Path(__file__).parent / "out_of_memory.tsv").read_text().splitlines()]


class OutOfMemoryError(RuntimeError):
    """Called as torch calls its own."""


@pytest.mark.parametrize(("text", "where", "source"), TEXTS)
def test_text_of_a_library_names_the_memory_that_ran_out(text: str, where: str, source: str) -> None:
    after = "host" if source == "oneDNN" else "device"
    expected = None if where in ("none", "after") else where
    assert where_memory_ran_out(RuntimeError(text)) == expected
    assert where_memory_ran_out(RuntimeError(text), ran_before=True) == (after if where == "after" else expected)


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OutOfMemoryError("any words"), "device"),
        (MemoryError(), "host"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "host"),
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (ValueError("can't allocate memory"), None),
    ],
)
def test_class_of_an_error_names_the_memory_that_ran_out(error: Exception, where: str | None) -> None:
    assert where_memory_ran_out(error, ran_before=True) == where
