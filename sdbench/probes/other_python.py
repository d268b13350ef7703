"""What another Python environment of this machine has: read by its own interpreter."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from pydantic import ValidationError

from sdbench.errors import EnvironmentProblem
from sdbench.privacy import Redactor
from sdbench.probes.nvml import open_nvml
from sdbench.probes.software import read_software
from sdbench.schema.fingerprint import Software

_TIMEOUT_S = 300


def read_software_of(python: Path, environ: Mapping[str, str], named: Sequence[str]) -> Software:
    """Return what runs with the interpreter of another environment; packages that are ``named`` are always listed.

    Raises:
        EnvironmentProblem: it cannot run this sdbench.
    """
    text = ask_python(python, environ, "probes.other_python.print_software", *named)
    try:
        return Software.model_validate_json(text)
    except ValidationError:
        raise EnvironmentProblem(f"{python} runs another sdbench than this one; remove its folder") from None


def ask_python(python: Path, environ: Mapping[str, str], function: str, *arguments: str) -> str:
    """Return what a function, ``module.name`` of sdbench, prints in another environment.

    Raises:
        EnvironmentProblem: it fails there.
    """
    module, _, name = function.rpartition(".")
    code = f"import sys; from sdbench.{module} import {name}; {name}(*sys.argv[1:])"
    try:
        done = subprocess.run(
            [python, "-P", "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=dict(environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(f"{python} did not answer within {_TIMEOUT_S:g} s; try it by hand") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise EnvironmentProblem(f"{python} cannot run sdbench: {last}; the environment needs what sdbench needs")
    return done.stdout


def print_software(*named: str) -> None:
    """Print the software of this interpreter as JSON."""
    software = read_software(open_nvml(), Redactor(), os.environ, named=named)
    sys.stdout.write(software.model_dump_json(by_alias=True))


def print_installed() -> None:
    """Print every distribution's version and requirements as JSON."""
    installed = {
        item.metadata["Name"]: [item.version, list(item.requires or ())]
        for item in distributions()
        if item.metadata["Name"]
    }
    sys.stdout.write(json.dumps(installed))
