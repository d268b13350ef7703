#!/usr/bin/env python3
"""Write the lock files next to this script from pyproject.toml; `make lock` runs it.

Every lock lists all transitive dependencies with hashes and without URLs, so pip downloads them from the index that is
configured and rejects files that differ. All locks come from one resolution, so their versions agree; that of CUDA 12
has a second one, which differs in torch, onnxruntime and what belongs to CUDA.
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
# torch for CUDA needs glibc 2.28 as well.
PLATFORM = "x86_64-manylinux_2_28"

# The wheel for CPython 3.11 on Linux x86_64 in PyTorch's own CPU index, which PyPI does not have. Update both lines by
# hand for a new version of torch.
TORCH_CPU_VERSION = "2.13.0"
TORCH_CPU_SHA256 = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
# What only the CUDA build of torch needs.
CUDA_PACKAGE = re.compile(r"(nvidia|cuda)-(?!ml-py$).*|triton")
# What the builds for CUDA 12 and CUDA 13 do not share.
CUDA_BUILD = re.compile(rf"torch|onnxruntime-gpu|{CUDA_PACKAGE.pattern}")

# Contains the CLIP vocabulary; its requirements (torchvision, timm) are not needed for that.
VOCABULARY = "open_clip_torch==3.3.0"

# What builds and installs the wheel. Without lower ends, the lowest versions of all would be resolved.
BUILD_TOOLS = ("pip>=26.3", "wheel>=0.48.0", "setuptools>=84.2.1")

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_ENTRY = re.compile(
    r"^(?P<name>[a-z0-9-]+)(?P<pin>==.*\n(?:[ ]+--hash.*\n)*)(?P<comments>(?:[ ]+#.*\n)*)", re.MULTILINE
)
_PARENT = re.compile(r"^ +#(?: +via)? +(?P<name>[a-z0-9-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Resolution:
    """What uv resolved: the pin of each package with its hashes, and the requirements of each."""

    pins: dict[str, str]
    children: dict[str, set[str]]

    def closure(self, requirements: Iterable[str], without: re.Pattern[str] | None = None) -> set[str]:
        """Return the names of the requirements and their dependencies, except those that match ``without``."""
        names: set[str] = set()
        waiting = [normalized_name(requirement) for requirement in requirements]
        while waiting:
            name = waiting.pop()
            if name not in names and not (without and without.fullmatch(name)):
                names.add(name)
                waiting += self.children.get(name, set())
        return names


def normalized_name(requirement: str) -> str:
    """Return the name of the package in a requirement, spelled as package indexes do.

    Raises:
        ValueError: the requirement does not start with a name.
    """
    match = _NAME.match(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} in pyproject.toml is not a requirement; write NAME>=VERSION")
    return re.sub(r"[._-]+", "-", match[0]).lower()


def resolve(requirements: Iterable[str], *options: str) -> Resolution:
    """Return the versions that fit the requirements, as uv resolves them.

    Raises:
        subprocess.CalledProcessError: there are none; uv explains why on stderr.
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
    # The locks pin the lower ends of pyproject.toml's ranges, so that the tests run on these.
    command += ["--resolution", "lowest-direct"]
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
    """Return the pin of torch's CPU build for the resolved version.

    Raises:
        ValueError: the resolved version is not the one of the wheel in this file.
    """
    version = resolved.split(maxsplit=1)[0].removeprefix("torch==")
    if version != TORCH_CPU_VERSION:
        raise ValueError(
            f"pyproject.toml requires torch {version}, but {Path(__file__).name} has the CPU wheel of "
            f"{TORCH_CPU_VERSION}; update its version and sha256 there, from PyTorch's CPU index"
        )
    return f"torch=={TORCH_CPU_VERSION}+cpu \\\n    --hash=sha256:{TORCH_CPU_SHA256}\n"


def write_lock(name: str, pins: dict[str, str]) -> None:
    """Write requirements/<name>.txt, sorted by package."""
    text = HEADER + "".join(pin for _, pin in sorted(pins.items()))
    (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


def main() -> None:
    """Write all lock files."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    # A requirement on sdbench itself is covered by another lock that is installed first.
    extras = {
        extra: [line for line in lines if not line.startswith("sdbench[")]
        for extra, lines in project["project"]["optional-dependencies"].items()
    }
    run = project["project"]["dependencies"] + extras["model"]
    build = [*BUILD_TOOLS, *project["build-system"]["requires"]]
    cpu, cuda12, cuda13 = (run + extras[extra] for extra in ("cpu", "cuda12", "cuda13"))
    own = ("report", "containers", "container", "publish", "query", "fleet")
    shipped = [*build, *cpu, *extras["cuda13"], *(line for extra in own for line in extras[extra])]
    tools = extras["test"] + extras["dev"]
    development = resolve([*shipped, *tools])
    pins = development.pins
    # Development tools require extras of packages that the others use without them.
    resolution = Resolution(pins, resolve(shipped).children)
    vocabulary = resolve([VOCABULARY], "--no-deps").pins

    write_lock("build", {name: pins[name] for name in resolution.closure(build)})
    cpu_pins = {name: pins[name] for name in resolution.closure(cpu, without=CUDA_PACKAGE)}
    write_lock("cpu", cpu_pins | vocabulary | {"torch": torch_cpu_pin(pins["torch"])})
    cuda_pins = {name: pins[name] for name in resolution.closure(cuda13)}
    shared = [pin.split(maxsplit=1)[0] for name, pin in cuda_pins.items() if not CUDA_BUILD.fullmatch(name)]
    resolution_12 = resolve([*cuda12, *shared])
    cuda_pins_12 = {name: resolution_12.pins[name] for name in resolution_12.closure(cuda12)}
    for name, own_pins in (("cuda12", cuda_pins_12), ("cuda13", cuda_pins)):
        # A local build such as +cpu satisfies torch==VERSION but not torch===VERSION.
        write_lock(name, own_pins | vocabulary | {"torch": own_pins["torch"].replace("==", "===", 1)})
    for extra in own:
        write_lock(extra, {name: pins[name] for name in resolution.closure(extras[extra])})
    write_lock("dev", {name: pins[name] for name in development.closure(tools)})


if __name__ == "__main__":
    main()
