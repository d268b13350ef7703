"""The one set of options for containers that measure: read from container.flags, for Docker's SDK.

``containers/bench.sh`` gives the same lines to ``docker create``; what a line means is Docker's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

FLAGS_FILE = "container.flags"

_PLACE = re.compile(r"\$\{(?P<name>[A-Z_]+)\}")
_FLAG = re.compile(r"--(?P<name>[a-z-]+)(?:=(?P<value>.*))?", re.DOTALL)


def read_data_lines(name: str) -> tuple[str, ...]:
    """Return the lines of a data file of this package, without comments and empty ones."""
    text = resources.files("sdbench.launch").joinpath(name).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def fill_flags(values: Mapping[str, str], lines: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the flags with their values; a flag whose value is empty or missing is left out."""
    flags = []
    for line in read_data_lines(FLAGS_FILE) if lines is None else lines:
        place = _PLACE.search(line)
        if place is None:
            flags.append(line)
        elif value := values.get(place["name"], ""):
            flags.append(line[: place.start()] + value + line[place.end() :])
    return tuple(flags)


def make_create_options(flags: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``docker.containers.create`` takes for flags of ``docker create``.

    Args:
        flags: ``--name=value``, or ``--name`` for a switch.
        environ: where a variable that is passed by name alone gets its value.

    Raises:
        ValueError: a flag that this function does not know.
    """
    options: dict[str, Any] = {}
    for flag in flags:
        match = _FLAG.fullmatch(flag)
        if match is None or match["name"] not in _SETTERS:
            msg = f"{flag!r} is no option that sdbench launch knows; add it to _SETTERS"
            raise ValueError(msg)
        value = match["value"]
        if match["name"] == "env" and "=" not in value:
            value = f"{value}={environ.get(value, '')}"
        _SETTERS[match["name"]](options, value)
    return options


def _text(name: str) -> Callable[[dict[str, Any], str], None]:
    def put(options: dict[str, Any], value: str) -> None:
        options[name] = value

    return put


def _append(name: str) -> Callable[[dict[str, Any], str], None]:
    def put(options: dict[str, Any], value: str) -> None:
        options.setdefault(name, []).append(value)

    return put


def _put_network(options: dict[str, Any], value: str) -> None:
    options["network_mode"] = value


def _put_read_only(options: dict[str, Any], _value: str) -> None:
    options["read_only"] = True


def _put_tmpfs(options: dict[str, Any], value: str) -> None:
    place, _, settings = value.partition(":")
    options.setdefault("tmpfs", {})[place] = settings


def _put_pids_limit(options: dict[str, Any], value: str) -> None:
    options["pids_limit"] = int(value)


def _put_gpus(options: dict[str, Any], value: str) -> None:
    from docker.types import DeviceRequest

    value = value.strip('"')
    chosen: dict[str, Any] = {"count": -1}
    if value.startswith("device="):
        chosen = {"device_ids": value.removeprefix("device=").split(",")}
    elif value != "all":
        chosen = {"count": int(value)}
    options["device_requests"] = [DeviceRequest(capabilities=[["gpu"]], **chosen)]


def _put_label(options: dict[str, Any], value: str) -> None:
    name, _, text = value.partition("=")
    options.setdefault("labels", {})[name] = text


_SETTERS: Mapping[str, Callable[[dict[str, Any], str], None]] = {
    "network": _put_network,
    "read-only": _put_read_only,
    "tmpfs": _put_tmpfs,
    "cap-drop": _append("cap_drop"),
    "security-opt": _append("security_opt"),
    "user": _text("user"),
    "ipc": _text("ipc_mode"),
    "shm-size": _text("shm_size"),
    "pids-limit": _put_pids_limit,
    "memory": _text("mem_limit"),
    "cpuset-cpus": _text("cpuset_cpus"),
    "gpus": _put_gpus,
    "volume": _append("volumes"),
    "env": _append("environment"),
    "label": _put_label,
}
