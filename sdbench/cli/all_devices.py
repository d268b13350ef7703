"""``--device cuda:all``: each GPU of the host alone, then all at once, a record each."""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from sdbench import exit_codes
from sdbench.backends.orphans import die_with
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes.devices import list_cuda_devices
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.schema.base import Model, sha256_of
from sdbench.schema.record import DeviceGroup
from sdbench.store.files import write_whole

ALL_DEVICES = "cuda:all"
GROUP_OPTION = "--device-group"
# What a device that ended with another code has no record of, or only a part.
_MEASURED = (exit_codes.OK, exit_codes.ALL_SKIPPED, exit_codes.EXPERIMENT_FAILED)
# What does not change what is measured.
_OF_THE_OUTPUT = ("--fresh", "--quiet", "--json")


class Stage(Model):
    """How far a group is: its id, and how many devices have run alone."""

    group_id: str
    alone_count: int


def run_all_devices(
    options: argparse.Namespace,
    arguments: Sequence[str],
    list_devices: Callable[[], tuple[str, ...]] = list_cuda_devices,
) -> int:
    """Run the manifest on each GPU alone, then on all at once, each in a process of its own; return the worst code.

    Contention for the host's CPUs, memory, PCIe and power shows as the ratio of the two: ``sdbench compare`` holds the
    records of one device against each other. What was interrupted is gone on with by the same command; all at once is
    begun anew, or a device would run its rest without the others. A device without a whole record ends it all.

    Raises:
        UserError: an option that needs a single device.
        EnvironmentProblem: there is no GPU to be had, or the folder for records is not writable.
        KeyboardInterrupt: SIGINT or SIGTERM came; the devices have sealed what they have.
    """
    if options.rounds is not None:
        raise UserError("--rounds needs a single device; name one instead of cuda:all")
    devices = list_devices()
    kept = _without_device(arguments)
    path = _stage_path(options.out, [*(word for word in kept if word not in _OF_THE_OUTPUT), *devices])
    stage = _open_stage(path, options)
    group = DeviceGroup(group_id=stage.group_id, devices=devices, at_once=False)
    codes = []
    with terminate_as_interrupt():
        for number, device in enumerate(devices[stage.alone_count :], start=stage.alone_count + 1):
            print(f"{device} alone", file=sys.stderr)
            codes += _run([_command(kept, device, group)])
            if codes[-1] not in _MEASURED:
                return codes[-1]
            write_whole(path, stage.model_copy(update={"alone_count": number}).model_dump_json().encode())
        if len(devices) > 1:
            print(f"{', '.join(devices)} at once", file=sys.stderr)
            at_once = group.model_copy(update={"at_once": True})
            codes += _run([[*_command(kept, device, at_once), "--fresh"] for device in devices])
    if all(code in _MEASURED for code in codes):
        path.unlink(missing_ok=True)
    return max(codes, default=exit_codes.OK)


def read_group(text: str) -> DeviceGroup:
    """Return the group that a run of ``cuda:all`` was told it belongs to."""
    return DeviceGroup.model_validate_json(text)


def _stage_path(out: Path, what: Sequence[str]) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {out}: {error.strerror}; check --out") from None
    return out / f".cuda-all-{sha256_of(list(what))[:16]}.json"


def _open_stage(path: Path, options: argparse.Namespace) -> Stage:
    """How far the same command came before it was interrupted, else the beginning of a new group."""
    if not options.fresh:
        try:
            return Stage.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            pass
    return Stage(
        group_id=f"{options.manifest.stem}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%f')}Z",
        alone_count=0,
    )


def _run(commands: Sequence[Sequence[str]]) -> list[int]:
    """Run commands at once and return their exit codes, as a shell would count them.

    Each is in a session of its own, so that a signal reaches it once, from here.
    """
    parent = os.getpid()
    started = [
        subprocess.Popen(command, start_new_session=True, preexec_fn=partial(die_with, parent))  # noqa: PLW1509
        for command in commands
    ]
    try:
        codes = [process.wait() for process in started]
    except KeyboardInterrupt:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            process.wait()
        raise
    return [code if code >= 0 else exit_codes.of_signal(-code) for code in codes]


def _without_device(arguments: Sequence[str]) -> list[str]:
    kept = [word for word in arguments if word != f"--device={ALL_DEVICES}"]
    while "--device" in kept:
        place = kept.index("--device")
        kept[place : place + 2] = []
    return kept


def _command(kept: Sequence[str], device: str, group: DeviceGroup) -> list[str]:
    """The command line of one device: the user's own, with the device and the group put in."""
    text = json.dumps(group.to_json_dict())
    return [sys.executable, "-m", "sdbench", *kept, "--device", device, GROUP_OPTION, text]
