"""The fingerprint of this machine at the start of a run."""

import os
from collections.abc import Mapping
from pathlib import Path

from sdbench.privacy import Redactor
from sdbench.probes.clocks_and_load import read_state
from sdbench.probes.configuration import read_configuration
from sdbench.probes.devices import Device
from sdbench.probes.hardware import read_hardware
from sdbench.probes.identity import load_salt
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.software import read_software
from sdbench.probes.sysfs import ROOT
from sdbench.schema.fingerprint import Fingerprint, seal_fingerprint


def collect_fingerprint(
    device: Device, *, nvml: Nvml | None = None, root: Path = ROOT, environ: Mapping[str, str] | None = None
) -> Fingerprint:
    """Return the four parts, the first three with their hashes; the keywords are for tests."""
    environ = os.environ if environ is None else environ
    nvml = open_nvml() if nvml is None else nvml
    redactor = Redactor(root, environ)
    salt = load_salt(environ)
    return seal_fingerprint(
        hardware=read_hardware(nvml, device.address, salt, root),
        configuration=read_configuration(nvml, device.address, environ, root),
        software=read_software(nvml, redactor, environ, root),
        state=read_state(device, nvml, salt, root),
    )
