"""The one set of options for containers that measure: read from container.flags, for Docker's SDK.

``containers/bench.sh`` gives the same lines to ``docker create``; what a line means is Docker's.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

_PLACEHOLDER = re.compile(r"\$\{(?P<name>[A-Z_]+)\}")
# The SDK's names of flags with one value, and of flags that may be repeated.
_VALUES = {
    "network": "network_mode",
    "user": "user",
    "ipc": "ipc_mode",
    "shm-size": "shm_size",
    "memory": "mem_limit",
    "cpuset-cpus": "cpuset_cpus",
}
_LISTS = {
    "cap-drop": "cap_drop",
    "security-opt": "security_opt",
    "volume": "volumes",
    "env": "environment",
    "device": "devices",
}


def read_data_lines(name: str) -> tuple[str, ...]:
    """Return the lines of a data file of this package, without comments and empty ones."""
    text = resources.files("sdbench.containers").joinpath(name).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def fill_flags(values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the flags of container.flags with their values; a flag whose value is empty or missing is omitted."""
    flags = []
    for line in read_data_lines("container.flags"):
        placeholder = _PLACEHOLDER.search(line)
        if placeholder is None:
            flags.append(line)
        elif value := values.get(placeholder["name"], ""):
            flags.append(line[: placeholder.start()] + value + line[placeholder.end() :])
    return tuple(flags)


def make_create_options(flags: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``docker.containers.create`` takes for flags of ``docker create``.

    A flag is ``--name=value``, or ``--name`` for a switch; a variable that is passed by name alone gets its value from
    ``environ``.

    Raises:
        ValueError: a flag that this function does not know.
    """
    options: dict[str, Any] = {"tmpfs": {}, "labels": {}, **{name: [] for name in _LISTS.values()}}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        key, _, setting = value.partition(":" if name == "tmpfs" else "=")
        match name:
            case _ if name in _VALUES:
                options[_VALUES[name]] = value
            case "env" if "=" not in value:
                # A name alone unsets the variable, as with docker's own command line.
                options["environment"].append(f"{value}={environ[value]}" if value in environ else value)
            case _ if name in _LISTS:
                options[_LISTS[name]].append(value)
            case "tmpfs":
                options["tmpfs"][key] = setting
            case "label":
                options["labels"][key] = setting
            case "read-only":
                options["read_only"] = True
            case "pids-limit":
                options["pids_limit"] = int(value)
            case "gpus":
                options["device_requests"] = [_request_gpus(value.strip('"'))]
            case _:
                msg = f"{flag!r} is not an option that sdbench run --image knows; add it to make_create_options"
                raise ValueError(msg)
    return options


def _request_gpus(value: str) -> Any:
    from docker.types import DeviceRequest

    if value.startswith("device="):
        return DeviceRequest(capabilities=[["gpu"]], device_ids=value.removeprefix("device=").split(","))
    return DeviceRequest(capabilities=[["gpu"]], count=-1 if value == "all" else int(value))
