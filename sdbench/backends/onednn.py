"""What oneDNN writes of itself, to standard output: the instruction set that it runs with, for example."""

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sdbench.schema.base import Known, Reading, Unknown

_MARK = "info,cpu,isa:"


@contextmanager
def capture_standard_output() -> Iterator[list[str]]:
    """While entered, keep what the process writes to standard output, C libraries too; the list has it afterwards."""
    flush = ctypes.CDLL(None).fflush
    lines: list[str] = []
    with tempfile.TemporaryFile() as stream:
        flush(None)
        standard_output = os.dup(1)
        os.dup2(stream.fileno(), 1)
        try:
            yield lines
        finally:
            flush(None)
            os.dup2(standard_output, 1)
            os.close(standard_output)
        stream.seek(0)
        lines += stream.read().decode(errors="replace").splitlines()


@cache
def read_effective_isa() -> Reading[str]:
    """Return oneDNN's name of the instructions that it uses on this CPU, below ONEDNN_MAX_CPU_ISA.

    oneDNN writes it once a process, to standard output, with the first primitive of which it is asked to tell.
    """
    import torch

    mkldnn: Any = torch.backends.mkldnn
    if not mkldnn.is_available():
        return Unknown(reason="this torch was built without oneDNN")
    with capture_standard_output() as lines, mkldnn.verbose(1), torch.inference_mode():
        # torch has kernels of its own for smaller ones.
        torch.conv2d(torch.zeros(2, 64, 64, 64), torch.zeros(64, 64, 3, 3))
    name = next((line.partition(_MARK)[2] for line in lines if _MARK in line), "")
    return Known(value=name) if name else Unknown(reason="oneDNN did not tell its instruction set")
