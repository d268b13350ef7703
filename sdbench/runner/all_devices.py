"""``--device cuda:all``: each GPU of the host alone, then all at once, a record each."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from sdbench import exit_codes
from sdbench.errors import RecordError
from sdbench.plan.make_plan import PlanRequest, request_arguments
from sdbench.probes.devices import list_cuda_devices
from sdbench.processes import die_with
from sdbench.runner.folder import utc_now
from sdbench.runner.interrupts import interrupts_held, terminate_as_interrupt
from sdbench.schema.base import Model, sha256_of
from sdbench.schema.record import DeviceGroup
from sdbench.store.bundle import load_record
from sdbench.store.files import make_folder, write_whole
from sdbench.store.layout import RECORD_NAME

DEVICE_GROUP_OPTION = "--device-group"
# A device that ended with another code has no complete record.
_MEASURED = (exit_codes.OK, exit_codes.EXPERIMENT_FAILED)


class Stage(Model):
    """Progress of a group: its id, and how many devices have run alone."""

    group_id: str
    alone_count: int


def run_all_devices(
    request: PlanRequest,
    out: Path,
    output: Sequence[str] = (),
    *,
    fresh: bool = False,
    list_devices: Callable[[], tuple[str, ...]] = list_cuda_devices,
    report: Callable[[str], None] = lambda _text: None,
) -> int:
    """Run a request on each GPU alone, then on all at once, each in a process of its own; return the worst code.

    Contention for the host's CPUs, memory, PCIe and power shows as the ratio of the two: ``sdbench compare`` compares
    the records of one device. An interrupted group is resumed by the same command; all at once is started over, or a
    device would run its rest without the others. A device without a complete record ends the group.

    ``output`` are options of ``sdbench run`` about what it prints.

    Raises:
        EnvironmentProblem: no GPU is available, or the folder for records is not writable.
        KeyboardInterrupt: SIGINT or SIGTERM arrived; each device has sealed its launches so far.
    """
    devices = list_devices()
    arguments = ["run", str(request.manifest), *request_arguments(replace(request, device="")), f"--out={out}"]
    make_folder(out)
    path = out / f".cuda-all-{sha256_of([*arguments, *devices])[:16]}.json"
    stage = _open_stage(path, request, fresh=fresh)
    arguments += [*output, *(["--fresh"] if fresh else [])]
    group = DeviceGroup(group_id=stage.group_id, devices=devices, at_once=False)
    codes: list[int] = []
    is_complete = True
    with terminate_as_interrupt():
        for number, device in enumerate(devices[stage.alone_count :], start=stage.alone_count + 1):
            report(f"{device} alone")
            codes += _run([_command(arguments, device, group)])
            if not _is_measured(codes[-1], device, group, out):
                return codes[-1]
            write_whole(path, stage.model_copy(update={"alone_count": number}).model_dump_json().encode())
        if len(devices) > 1:
            report(f"{', '.join(devices)} at once")
            at_once = group.model_copy(update={"at_once": True})
            together = _run([_command([*arguments, "--fresh"], device, at_once) for device in devices])
            is_complete = all(_is_measured(*both, at_once, out) for both in zip(together, devices, strict=True))
            codes += together
    if is_complete:
        path.unlink(missing_ok=True)
    return max(codes, default=exit_codes.OK)


def _is_measured(code: int, device: str, group: DeviceGroup, out: Path) -> bool:
    """Return whether a device that ended with a code has a complete record of the group.

    One where all was skipped has; one that lost its GPU on the way ends with the same code and has not.
    """
    if code != exit_codes.ALL_SKIPPED:
        return code in _MEASURED
    for path in out.glob(f"*/{RECORD_NAME}"):
        with contextlib.suppress(OSError, RecordError):
            record = load_record(path.parent)
            if (record.device_group, record.device, record.ended) == (group, device, "complete"):
                return True
    return False


def _open_stage(path: Path, request: PlanRequest, *, fresh: bool) -> Stage:
    with contextlib.suppress(OSError, ValidationError):
        if not fresh:
            return Stage.model_validate_json(path.read_bytes())
    return Stage(group_id=f"{Path(request.manifest).stem}-{utc_now('%Y%m%dT%H%M%S%f')}Z", alone_count=0)


def _run(commands: Sequence[Sequence[str]]) -> list[int]:
    """Run commands at once and return their exit codes, as a shell would count them.

    Each is in a session of its own, so that a signal reaches it once, from here. While they are started, signals wait:
    Python drops a KeyboardInterrupt that is raised in a hook of ``os.fork`` (``logging`` has one).
    """
    die = partial(die_with, os.getpid())
    started: list[subprocess.Popen[bytes]] = []
    try:
        with interrupts_held():
            for command in commands:
                # One by one: those that have started can be interrupted.
                process = subprocess.Popen(command, start_new_session=True, preexec_fn=die)  # noqa: PLW1509
                started.append(process)
        codes = [process.wait() for process in started]
    except KeyboardInterrupt:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            process.wait()
        raise
    return [code if code >= 0 else exit_codes.of_signal(-code) for code in codes]


def _command(arguments: Sequence[str], device: str, group: DeviceGroup) -> list[str]:
    text = json.dumps(group.to_json_dict())
    return [sys.executable, "-m", "sdbench", *arguments, f"--device={device}", f"{DEVICE_GROUP_OPTION}={text}"]
