"""What NVML answers on this card, kept without identifiers as a snapshot that tests on other machines can replay."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sdbench.probes.devices import choose_device
from sdbench.probes.gpu import read_gpu_configuration, read_gpu_identity, read_process_memory
from sdbench.probes.nvml import Nvml, NvmlCallError, PynvmlLibrary, open_nvml
from sdbench.probes.readings import value_of
from sdbench.schema.base import Known, Unknown
from tests.gpu.machine import DEVICE

IDENTIFIERS = ("nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetSerial")


class Recorder:
    """NVML that keeps each call and its answer, as the snapshots of tests/probes do."""

    def __init__(self) -> None:
        self._library = PynvmlLibrary()
        self.calls: list[dict[str, Any]] = []

    def call(self, function: str, *arguments: Any) -> Any:
        hidden = ["GPU-00000000-0000-0000-0000-000000000000" if isinstance(a, str) else a for a in arguments]
        entry: dict[str, Any] = {"function": function, "arguments": hidden}
        try:
            value = self._library.call(function, *arguments)
        except NvmlCallError as error:
            self.calls.append(entry | {"error": str(error)})
            raise
        self.calls.append(entry | {"value": "(identifier)" if function in IDENTIFIERS else value})
        return value


def test_every_query_of_this_card_is_a_reading(observe: Callable[..., None]) -> None:
    recorder = Recorder()
    nvml, device = Nvml(recorder.call), choose_device(DEVICE)
    address = device.nvml_address
    identity = read_gpu_identity(nvml, address, Unknown(reason="no salt is needed here"))
    configuration = read_gpu_configuration(nvml, address)
    observe(
        identity=identity.model_dump(mode="json"),
        configuration=configuration.model_dump(mode="json"),
        snapshot=recorder.calls,
    )
    assert isinstance(identity.name, Known)
    assert isinstance(identity.memory_total_bytes, Known)


def test_device_is_the_one_that_torch_uses() -> None:
    device = choose_device(DEVICE)
    assert f"GPU-{torch.cuda.get_device_properties(0).uuid}" == device.uuid


def test_memory_of_this_process_is_found_by_its_pid(observe: Callable[..., None]) -> None:
    torch.zeros(1, device=DEVICE)
    memory = read_process_memory(open_nvml(), choose_device(DEVICE).nvml_address, os.getpid())
    observe(memory=str(memory))
    assert value_of(memory) > 0


# In a namespace of its own, as in a container.
INSIDE = """
import json, os, torch
from sdbench.probes.devices import choose_device
from sdbench.probes.gpu import is_host_pid_namespace, read_process_memory
from sdbench.probes.nvml import open_nvml
from tests.gpu.machine import DEVICE
torch.zeros(1, device="cuda:0")
nvml, address = open_nvml(), choose_device("cuda:0").nvml_address
print(json.dumps({
    "host namespace": is_host_pid_namespace(),
    "listed": len(nvml.processes(address).value),
    "own": str(read_process_memory(nvml, address, os.getpid())),
}))
"""


def test_in_a_containers_namespace_the_driver_lists_this_process_alone(observe: Callable[..., None]) -> None:
    torch.zeros(1, device=DEVICE)  # the process outside
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", INSIDE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        observe(error=done.stderr[-300:])
        pytest.skip("unshare is not permitted here")
    inside = json.loads(done.stdout.splitlines()[-1])
    observe(inside=inside)
    assert inside["host namespace"] is False
    assert inside["listed"] == 1
