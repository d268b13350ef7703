"""The instruction set that oneDNN runs with, which torch has no call for."""

import ctypes
import os
import tempfile
from functools import cache
from typing import Any

from sdbench.schema.base import Known, Reading, Unknown

_MARK = "info,cpu,isa:"


@cache
def read_effective_isa() -> Reading[str]:
    """Return oneDNN's name of the instructions that it uses on this CPU, below ONEDNN_MAX_CPU_ISA.

    oneDNN writes it once a process, to standard output, with the first primitive of which it is asked to tell.
    """
    import torch

    mkldnn: Any = torch.backends.mkldnn
    if not mkldnn.is_available():
        return Unknown(reason="this torch was built without oneDNN")
    flush = ctypes.CDLL(None).fflush
    with tempfile.TemporaryFile() as stream:
        flush(None)
        standard_output = os.dup(1)
        os.dup2(stream.fileno(), 1)
        try:
            with mkldnn.verbose(1), torch.inference_mode():
                # torch has kernels of its own for smaller ones.
                torch.conv2d(torch.zeros(2, 64, 64, 64), torch.zeros(64, 64, 3, 3))
            flush(None)
        finally:
            os.dup2(standard_output, 1)
            os.close(standard_output)
        stream.seek(0)
        lines = stream.read().decode(errors="replace").splitlines()
    name = next((line.partition(_MARK)[2] for line in lines if _MARK in line), "")
    return Known(value=name) if name else Unknown(reason="oneDNN did not tell its instruction set")
