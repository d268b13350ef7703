"""What a measurement on a GPU needs: one list of checks, for ``doctor`` and for the choice of a run's device."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from sdbench.probes.configuration import read_container
from sdbench.probes.gpu import has_nvidia_gpu
from sdbench.probes.nvml import Nvml, is_slice
from sdbench.probes.nvml_library import NvmlCode
from sdbench.probes.readings import value_or
from sdbench.probes.sysfs import ROOT
from sdbench.probes.torch_build import NONE
from sdbench.probes.visible_gpus import VisibleGpu
from sdbench.schema.base import Known, Model, Reading, Unknown

_HINTS: dict[int, str] = {
    NvmlCode.VERSION_MISMATCH: "the driver was updated under its loaded module: reboot the host, or reload the module "
    "(sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia; sudo modprobe nvidia)",
    NvmlCode.DRIVER_NOT_LOADED: "load the kernel module: sudo modprobe nvidia",
    NvmlCode.NO_PERMISSION: "let this user read and write /dev/nvidia*: ls -l /dev/nvidia*",
    NvmlCode.LIBRARY_NOT_FOUND: "install the NVIDIA driver, or in a container pass the GPU through "
    "(docker run --gpus all)",
    NvmlCode.NO_PACKAGE: "run 'make bench', or pip install nvidia-ml-py",
    NvmlCode.GPU_IS_LOST: "look for Xid in 'sudo dmesg', then reset it (sudo nvidia-smi --gpu-reset) or reboot",
    NvmlCode.RESET_REQUIRED: "reset it (sudo nvidia-smi --gpu-reset) or reboot",
}
# NVIDIA/nvidia-container-toolkit issue 48: a reload of systemd takes the device files from running containers.
_LOST_DEVICES_HINT = "the container lost its device files, as when systemd is reloaded: start it again"
_SEE_NVIDIA_SMI = "see 'nvidia-smi'"
_NO_CUDA = "install its CUDA build (from a checkout: TORCH_BUILD=cuda make bench)"

# By the CUDA version of torch's build, newest first: the lowest compute capability it has kernels for, and the first
# driver that runs it. CUDA 13.0's release notes drop what is below 7.5 and ask for driver 580; the wheels of torch 2.10
# for CUDA 12.8 begin with sm_70 and run from 525 on (CUDA Compatibility, minor version compatibility).
_NEEDS = (((13, 0), (7, 5), "580"), ((12, 8), (7, 0), "525"), ((12, 0), (5, 0), "525"))


class Finding(Model):
    """One check: its value, what to do about it (empty where nothing is to be done), and whether it prevents a run."""

    name: str
    value: str
    hint: str
    prevents: bool


def check_system(
    nvml: Nvml, torch_cuda: Reading[str], environ: Mapping[str, str], root: Path = ROOT
) -> Iterator[Finding]:
    """Yield the checks of driver and torch; the second only where there is a GPU that the driver shows."""
    driver = _check_driver(nvml, environ, root)
    yield driver
    if not driver.prevents and has_nvidia_gpu(nvml, root):
        yield _check_torch(nvml, torch_cuda)


def _check_driver(nvml: Nvml, environ: Mapping[str, str], root: Path) -> Finding:
    present, name = has_nvidia_gpu(nvml, root), "NVIDIA driver"
    if nvml.missing:
        if present:
            return _problem(name, nvml.missing, explain_missing(nvml, environ, root))
        return _fine(name, f"no NVIDIA GPU ({nvml.missing}); runs measure the CPU")
    count, driver = nvml.device_count(), nvml.driver_version()
    version = f"driver {driver.value}" if isinstance(driver, Known) else driver.reason
    if isinstance(count, Unknown):
        return _problem(name, count.reason, _SEE_NVIDIA_SMI)
    if not count.value:
        hint = f"{_SEE_NVIDIA_SMI}; in a container pass the GPU through"
        return _problem(name, f"{version}, no GPU shown", hint) if present else _fine(name, f"{version}, no NVIDIA GPU")
    names = [nvml.name(index) for index in range(count.value)]
    return _fine(name, f"{version}: {', '.join(n.value if isinstance(n, Known) else n.reason for n in names)}")


def explain_missing(nvml: Nvml, environ: Mapping[str, str], root: Path = ROOT) -> str:
    """Return what to do where NVML does not start."""
    if nvml.missing_code == NvmlCode.UNKNOWN and value_or(read_container(environ, root), NONE) != NONE:
        return _LOST_DEVICES_HINT
    return _HINTS.get(nvml.missing_code, f"{_SEE_NVIDIA_SMI} and 'sudo dmesg'")


def _check_torch(nvml: Nvml, torch_cuda: Reading[str]) -> Finding:
    name = "torch with CUDA"
    if isinstance(torch_cuda, Unknown):
        return _problem(name, torch_cuda.reason, _NO_CUDA)
    if torch_cuda.value == NONE:
        return _problem(name, "the installed torch is built without CUDA", _NO_CUDA)
    driver_cuda = nvml.cuda_version()
    needs = _find_needs(torch_cuda)
    if needs and isinstance(driver_cuda, Known) and _version(driver_cuda.value)[0] < _version(torch_cuda.value)[0]:
        # torch would show no device.
        value = f"torch is built for CUDA {torch_cuda.value}, the driver is made for CUDA {driver_cuda.value}"
        return _problem(name, value, f"update the driver to {needs[1]} or newer")
    return _fine(name, f"CUDA {torch_cuda.value}")


def _find_needs(torch_cuda: Reading[str]) -> tuple[tuple[int, int], str] | None:
    if isinstance(torch_cuda, Unknown) or torch_cuda.value == NONE:
        return None
    version = _version(torch_cuda.value)
    return next(((capability, driver) for cuda, capability, driver in _NEEDS if version >= cuda), None)


def check_gpu(nvml: Nvml, gpu: VisibleGpu, torch_cuda: Reading[str]) -> Iterator[Finding]:
    """Yield the checks of one GPU; what its driver does not report is not checked."""
    if (code := nvml.code_of(gpu.address)) in (NvmlCode.GPU_IS_LOST, NvmlCode.RESET_REQUIRED):
        lost = code == NvmlCode.GPU_IS_LOST
        yield _problem("GPU", "the GPU is lost" if lost else "the GPU requires a reset", _HINTS[code])
        return
    if not is_slice(gpu.address) and value_or(nvml.mig_mode(gpu.address), "off") == "on":
        hint = "create one (sudo nvidia-smi mig -cgi PROFILE -C), or pass one to the container"
        yield _problem("MIG", "MIG is on, and none of its slices is visible here", hint)
    capability, needs = nvml.compute_capability(gpu.address), _find_needs(torch_cuda)
    if needs and isinstance(capability, Known):
        lowest = ".".join(map(str, needs[0]))
        if _version(capability.value) < needs[0]:
            value = f"{capability.value}; torch for CUDA {value_or(torch_cuda, '')} has kernels from {lowest} on"
            yield _problem("compute capability", value, "use a newer GPU, or a torch for an older CUDA")
        else:
            yield _fine("compute capability", f"{capability.value} ({lowest} or higher is needed)")
    if isinstance(mode := nvml.compute_mode(gpu.address), Known):
        if mode.value == "prohibited":
            yield _problem("compute mode", "prohibited: nothing may compute on it", "sudo nvidia-smi -c DEFAULT")
        else:
            yield _fine("compute mode", mode.value)
    if isinstance(persistence := nvml.persistence_mode(gpu.address), Known):
        # It starts for the first process again, 1 to 2 s, and the clocks settle again.
        value = "on" if persistence.value else "off: the driver stops between launches"
        hint = "" if persistence.value else "on the host: sudo nvidia-smi -pm 1"
        yield Finding(name="persistence mode", value=value, hint=hint, prevents=False)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _fine(name: str, value: str) -> Finding:
    return Finding(name=name, value=value, hint="", prevents=False)


def _problem(name: str, value: str, hint: str) -> Finding:
    return Finding(name=name, value=value, hint=hint, prevents=True)
