"""``--device cuda:all``: each GPU of the host alone, then all at once, a record each."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sdbench.errors import UserError
from sdbench.probes.devices import list_cuda_devices
from sdbench.schema.record import DeviceGroup

ALL_DEVICES = "cuda:all"
GROUP_OPTION = "--device-group"


def run_all_devices(
    options: argparse.Namespace,
    arguments: Sequence[str],
    list_devices: Callable[[], tuple[str, ...]] = list_cuda_devices,
) -> int:
    """Run the manifest on each GPU alone, then on all at once, each in a process of its own; return the worst code.

    Contention for the host's CPUs, memory, PCIe and power shows as the ratio of the two: ``sdbench compare`` holds the
    records of one device against each other.

    Raises:
        UserError: an option that needs a single device.
        EnvironmentProblem: there is no GPU to be had.
    """
    if options.rounds is not None:
        raise UserError("--rounds needs a single device; name one instead of cuda:all")
    devices = list_devices()
    group_id = f"{options.manifest.stem}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%f')}Z"
    alone = DeviceGroup(group_id=group_id, devices=devices, at_once=False)
    codes = []
    for device in devices:
        print(f"{device} alone", file=sys.stderr)
        codes.append(subprocess.run(_command(arguments, device, alone)).returncode)
    if len(devices) > 1:
        print(f"{', '.join(devices)} at once", file=sys.stderr)
        together = alone.model_copy(update={"at_once": True})
        started = [subprocess.Popen(_command(arguments, device, together)) for device in devices]
        codes += [process.wait() for process in started]
    return max(codes)


def read_group(text: str) -> DeviceGroup:
    """Return the group that a run of ``cuda:all`` was told it belongs to."""
    return DeviceGroup.model_validate_json(text)


def _command(arguments: Sequence[str], device: str, group: DeviceGroup) -> list[str]:
    """The command line of one device: the user's own, with the device and the group put in."""
    kept = [word for word in arguments if word != f"--device={ALL_DEVICES}"]
    while "--device" in kept:
        place = kept.index("--device")
        kept[place : place + 2] = []
    text = json.dumps(group.to_json_dict())
    return [sys.executable, "-m", "sdbench", *kept, "--device", device, GROUP_OPTION, text]
