#!/usr/bin/env python3
"""Write the lock files beside this script from pyproject.toml; `make lock` runs it.

Every lock lists its whole closure with hashes and no address, so that pip takes the files from wherever the
machine is told to look, and refuses any that differ. All of them come out of one resolution and so agree.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HEADER = "# Written by `make lock`. Install with: pip install --no-deps --require-hashes -r FILE\n"
# torch for CUDA asks for glibc 2.28 too, so nothing older could run.
PLATFORM = "x86_64-manylinux_2_28"

# The wheel of CPython 3.11 on Linux x86_64 in PyTorch's own CPU index, which the package registry does not
# have: a new version of torch needs both lines by hand.
TORCH_CPU_VERSION = "2.13.0"
TORCH_CPU_SHA256 = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
# What only the CUDA build of torch needs.
CUDA_PACKAGE = re.compile(r"(nvidia|cuda)-(?!ml-py$).*|triton")

# Carries the CLIP vocabulary; its own requirements (torchvision, timm) are not needed for that.
VOCABULARY = "open_clip_torch==3.3.0"

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_ENTRY = re.compile(
    r"^(?P<name>[a-z0-9-]+)(?P<pin>==.*\n(?:[ ]+--hash.*\n)*)(?P<comments>(?:[ ]+#.*\n)*)", re.MULTILINE
)
_PARENT = re.compile(r"^ +#(?: +via)? +(?P<name>[a-z0-9-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Resolution:
    """What uv resolved: the pin of each package (with its hashes), and which packages ask for which."""

    pins: dict[str, str]
    children: dict[str, set[str]]

    def closure(self, requirements: Iterable[str], without: re.Pattern[str] | None = None) -> set[str]:
        """Return the names of all packages that the requirements lead to, less those that match ``without``."""
        found: set[str] = set()
        waiting = [normalized_name(requirement) for requirement in requirements]
        while waiting:
            name = waiting.pop()
            if name not in found and not (without and without.fullmatch(name)):
                found.add(name)
                waiting += self.children.get(name, set())
        return found


def normalized_name(requirement: str) -> str:
    """Return the name of the package in a requirement, spelled as package indexes do.

    Raises:
        ValueError: the requirement starts with no name.
    """
    match = _NAME.match(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} in pyproject.toml is no requirement; write NAME==VERSION")
    return re.sub(r"[._-]+", "-", match[0]).lower()


def resolve(requirements: Iterable[str], *options: str) -> Resolution:
    """Return the versions that fit the requirements, as uv resolves them.

    Raises:
        subprocess.CalledProcessError: there are none; uv has said why on stderr.
    """
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--no-config",
        "--no-header",
        "--generate-hashes",
    ]
    command += ["--python-version", "3.11", "--python-platform", PLATFORM, *options, "-"]
    done = subprocess.run(command, input="\n".join(requirements), stdout=subprocess.PIPE, text=True, check=True)
    pins: dict[str, str] = {}
    children: dict[str, set[str]] = {}
    for entry in _ENTRY.finditer(done.stdout):
        pins[entry["name"]] = entry["name"] + entry["pin"].rstrip("\\\n ") + "\n"
        for parent in _PARENT.finditer(entry["comments"]):
            children.setdefault(parent["name"], set()).add(entry["name"])
    return Resolution(pins, children)


def torch_cpu_pin(resolved: str) -> str:
    """Return the pin of torch's CPU build that stands for the resolved one.

    Raises:
        ValueError: the version of torch has moved on from the wheel named in this file.
    """
    version = resolved.split(maxsplit=1)[0].removeprefix("torch==")
    if version != TORCH_CPU_VERSION:
        raise ValueError(
            f"pyproject.toml asks for torch {version}, but {Path(__file__).name} knows the CPU wheel of "
            f"{TORCH_CPU_VERSION}; write the new version there, and the wheel's sha256 from PyTorch's CPU index"
        )
    return f"torch=={TORCH_CPU_VERSION}+cpu \\\n    --hash=sha256:{TORCH_CPU_SHA256}\n"


def write_lock(name: str, pins: dict[str, str]) -> None:
    """Write requirements/<name>.txt, sorted by package."""
    text = HEADER + "".join(pin for _, pin in sorted(pins.items()))
    (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


def main() -> None:
    """Write all lock files."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    # A line that names sdbench itself stands for a lock that is installed before.
    extras = {
        extra: [line for line in lines if not line.startswith("sdbench[")]
        for extra, lines in project["project"]["optional-dependencies"].items()
    }
    run = project["project"]["dependencies"] + extras["model"]
    build = ["pip", "wheel", *project["build-system"]["requires"]]
    cpu, cuda = run + extras["cpu"], run + extras["cuda"]
    own = ("report", "launch", "container", "publish", "query", "fleet")
    shipped = [*build, *cpu, *extras["cuda"], *(line for extra in own for line in extras[extra])]
    development = resolve([*shipped, *extras["dev"]])
    pins = development.pins
    # The tools for development ask for extras of packages that the others use without them.
    resolution = Resolution(pins, resolve(shipped).children)
    vocabulary = resolve([VOCABULARY], "--no-deps").pins

    write_lock("build", {name: pins[name] for name in resolution.closure(build)})
    cpu_pins = {name: pins[name] for name in resolution.closure(cpu, without=CUDA_PACKAGE)}
    write_lock("cpu", cpu_pins | vocabulary | {"torch": torch_cpu_pin(pins["torch"])})
    # A local build such as +cpu satisfies torch==VERSION but not torch===VERSION.
    exact_torch = {"torch": pins["torch"].replace("==", "===", 1)}
    write_lock("cuda", {name: pins[name] for name in resolution.closure(cuda)} | vocabulary | exact_torch)
    for extra in own:
        write_lock(extra, {name: pins[name] for name in resolution.closure(extras[extra])})
    write_lock("dev", {name: pins[name] for name in development.closure(extras["dev"])})


if __name__ == "__main__":
    main()
