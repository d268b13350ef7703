"""Who measured: hardware, configuration, software and state, each with its own hash but the last."""

from typing import Any

from pydantic import Field

from sdbench.schema.base import Model, Number, Reading, Sha256, sha256_of
from sdbench.schema.ceilings import Ceilings


class GpuIdentity(Model):
    """What a GPU is. The UUID only as an HMAC salted on this host, so that it links records but names nothing."""

    name: Reading[str] = Field(description="Model.")
    mig_profile: Reading[str] = Field(
        description="Profile of the MIG slice of it that was measured; none for all of it."
    )
    memory_total_bytes: Reading[int] = Field(description="Memory in bytes, of a MIG slice its own.")
    compute_capability: Reading[str] = Field(description="CUDA compute capability.")
    pci_device_id: Reading[str] = Field(description="PCI vendor and device.")
    multiprocessor_count: Reading[int] = Field(description="Streaming multiprocessors, of a MIG slice its own.")
    uuid_hmac: Reading[str] = Field(description="HMAC of the UUID, salted on the host.")


class Hardware(Model):
    """The machine's identity."""

    architecture: Reading[str] = Field(description="Instruction set.")
    cpu_vendor: Reading[str] = Field(description="Vendor of the CPU.")
    cpu_model: Reading[str] = Field(description="Model of the CPU.")
    cpu_family_model_stepping: Reading[str] = Field(description="Family, model and stepping of the CPU.")
    cpu_flags: Reading[tuple[str, ...]] = Field(description="Instruction set extensions.")
    physical_core_count: Reading[int] = Field(description="Physical cores.")
    logical_cpu_count: Reading[int] = Field(description="Logical CPUs.")
    socket_count: Reading[int] = Field(description="CPU sockets.")
    numa_node_count: Reading[int] = Field(description="NUMA nodes.")
    cache_bytes: Reading[tuple[str, ...]] = Field(description="CPU caches with their sizes.")
    memory_total_bytes: Reading[int] = Field(description="Memory of the host in bytes.")
    virtualization: Reading[str] = Field(description="Hypervisor.")
    gpus: Reading[tuple[GpuIdentity, ...]] = Field(description="The GPU that was measured; none for the CPU.")


class GpuConfiguration(Model):
    """How a GPU is set up; of a MIG slice, how its card is."""

    power_limit_w: Reading[float] = Field(description="Power limit in watts, as set.")
    power_limit_default_w: Reading[float] = Field(description="Power limit by default in watts.")
    ecc_enabled: Reading[bool] = Field(description="Whether ECC is on.")
    persistence_mode: Reading[bool] = Field(description="Whether persistence mode is on.")
    compute_mode: Reading[str] = Field(description="Compute mode.")
    mig_mode: Reading[str] = Field(description="MIG mode.")
    clock_max_sm_mhz: Reading[int] = Field(description="Highest SM clock in MHz.")
    clock_max_memory_mhz: Reading[int] = Field(description="Highest memory clock in MHz.")
    pcie_generation: Reading[int] = Field(description="Highest PCIe generation of card and slot.")
    pcie_width: Reading[int] = Field(description="Most PCIe lanes of card and slot.")
    bar1_total_bytes: Reading[int] = Field(description="Window of the host onto its memory (BAR1) in bytes.")
    numa_node: Reading[int] = Field(description="NUMA node of the host that it is connected to.")


class Configuration(Model):
    """How the machine is set up: what can be changed without buying another."""

    cpu_governor: Reading[str] = Field(description="CPU frequency governor.")
    cpu_scaling_driver: Reading[str] = Field(description="Kernel driver that sets the CPU's clock.")
    cpu_energy_preference: Reading[str] = Field(description="Energy and performance preference of the CPU (EPP).")
    cpu_boost: Reading[str] = Field(description="Whether the CPU may boost.")
    cpu_clock_max_khz: Reading[int] = Field(description="Highest CPU clock in kHz.")
    microcode: Reading[str] = Field(description="Version of the microcode.")
    smt: Reading[str] = Field(description="Simultaneous multithreading.")
    affinity_cpu_count: Reading[int] = Field(description="CPUs that the process may use.")
    cgroup_version: Reading[str] = Field(description="Version of the control groups.")
    cgroup_cpu_limit: Reading[str] = Field(description="CPU limit of the control group.")
    cgroup_memory_limit: Reading[str] = Field(description="Memory limit of the control group.")
    transparent_hugepage: Reading[str] = Field(description="Setting of transparent huge pages.")
    swap_total_bytes: Reading[int] = Field(description="Swap in bytes.")
    numa_balancing: Reading[int] = Field(description="Whether the kernel moves memory between NUMA nodes: 0 is off.")
    memory_policy: Reading[str] = Field(description="Policy by which the process gets memory from the NUMA nodes.")
    affinity_numa_nodes: Reading[tuple[int, ...]] = Field(description="NUMA nodes of the CPUs it may use.")
    vulnerabilities_mitigated: Reading[tuple[str, ...]] = Field(description="Mitigations of CPU vulnerabilities.")
    container: Reading[str] = Field(description="The container that the process is in.")
    gpus: Reading[tuple[GpuConfiguration, ...]] = Field(description="Settings of the GPU that was measured.")


class Package(Model):
    """An installed distribution that affects the results."""

    name: str = Field(description="Name of the distribution.")
    version: Reading[str] = Field(description="Installed version.")


class EnvironmentVariable(Model):
    """A set environment variable that affects speed; paths of the user are replaced."""

    name: str = Field(description="Name of the variable.")
    value: str = Field(description="Its value.")


class ContainerEngine(Model):
    """What runs the container, as reported by what started it: none of this is visible from inside."""

    engine_version: Reading[str] = Field(description="Version of the engine.")
    host_os: Reading[str] = Field(description="Operating system of the host.")
    runtime: Reading[str] = Field(description="Runtime of the container.")
    storage_driver: Reading[str] = Field(description="Storage driver.")
    cgroup_driver: Reading[str] = Field(description="Driver of the control groups.")
    cgroup_version: Reading[str] = Field(description="Version of the control groups.")
    security_options: Reading[tuple[str, ...]] = Field(description="Security options.")
    nvidia_toolkit: Reading[str] = Field(description="Version of the NVIDIA container toolkit.")


class Software(Model):
    """What runs: kernel driver and user-mode libcuda apart, because they may differ.

    ``gpu_libcuda`` is the one that the loader takes, ``gpu_libcuda_found`` all that it could: a compatibility package
    next to the one that belongs to the driver. ``image_digest`` is the registry's, ``image_id`` the engine's.
    """

    os_name: Reading[str] = Field(description="Operating system.")
    kernel: Reading[str] = Field(description="Kernel.")
    libc: Reading[str] = Field(description="C library.")
    python: Reading[str] = Field(description="Python.")
    packages: Reading[tuple[Package, ...]] = Field(description="Installed distributions that affect speed.")
    gpu_kernel_driver: Reading[str] = Field(description="Version of the kernel driver.")
    gpu_kernel_module: Reading[str] = Field(description="Flavour of its kernel module: open or proprietary.")
    gpu_libcuda: Reading[str] = Field(description="Version of the libcuda that the loader takes.")
    gpu_libcuda_found: Reading[tuple[str, ...]] = Field(description="Versions of every libcuda that it could take.")
    gpu_driver_cuda: Reading[str] = Field(description="CUDA version of the driver.")
    torch_cuda: Reading[str] = Field(description="CUDA version of torch.")
    cudnn: Reading[str] = Field(description="Version of cuDNN.")
    image_digest: Reading[str] = Field(description="Digest by which a registry serves the image.")
    image_id: Reading[str] = Field(description="Identity of the image in the engine.")
    container_engine: Reading[ContainerEngine] = Field(description="What runs the container, as reported from outside.")
    environment: Reading[tuple[EnvironmentVariable, ...]] = Field(description="Environment variables that affect it.")
    sdbench_version: Reading[str] = Field(description="Version of sdbench.")
    sdbench_commit: Reading[str] = Field(description="Commit of sdbench.")
    sdbench_dirty: Reading[bool] = Field(description="Whether its source differs from the commit.")


class GpuState(Model):
    """What moves on a GPU from run to run, though nobody set it."""

    power_limit_enforced_w: Reading[float] = Field(description="Power limit in force, in watts: a laptop moves it.")
    clock_sm_mhz: Reading[int] = Field(description="SM clock in MHz, at rest.")
    throttle_bits: Reading[int] = Field(description="NVML's bit mask of why the clocks were not higher, at rest.")
    memory_reserved_bytes: Reading[int] = Field(description="Memory that the driver reserves for itself, in bytes.")
    display_attached: Reading[bool] = Field(description="Whether a display is attached.")
    display_active: Reading[bool] = Field(description="Whether a display is set up on it.")
    ecc_corrected_count: Reading[int] = Field(description="Memory errors corrected since the driver was loaded.")
    ecc_uncorrected_count: Reading[int] = Field(description="Memory errors not corrected since the driver was loaded.")
    remapped_row_count: Reading[int] = Field(description="Rows of memory that have been replaced.")


class State(Model):
    """What the machine was doing before the run: never hashed. The time series is the bundle's telemetry file.

    ``boot_hmac`` identifies a boot without naming it: an HMAC salted on this host.
    """

    boot_hmac: Reading[str] = Field(description="HMAC of the boot, salted on the host.")
    load_average_1min: Reading[float] = Field(description="Load average over one minute.")
    memory_available_bytes: Reading[int] = Field(description="Available memory in bytes.")
    foreign_gpu_process_count: Reading[int] = Field(description="Processes of others that computed on the GPU.")
    cpu_clock_mhz: Reading[Number] = Field(description="CPU clock in MHz.")
    temperature_c: Reading[Number] = Field(description="Temperature in degrees Celsius.")
    gpus: Reading[tuple[GpuState, ...]] = Field(description="The GPU that was measured; none for the CPU.")
    ceilings: Reading[Ceilings] = Field(description="What the machine reached at best when the run began.")


class Fingerprint(Model):
    """The four parts. Two machines are compared part by part, never by one hash."""

    hardware: Hardware = Field(description="What the machine is.")
    hardware_sha256: Sha256 = Field(description="Hash of the hardware.")
    configuration: Configuration = Field(description="How the machine is configured.")
    configuration_sha256: Sha256 = Field(description="Hash of the configuration.")
    software: Software = Field(description="What runs on it.")
    software_sha256: Sha256 = Field(description="Hash of the software.")
    state: State = Field(description="What it was doing before the run.")


def seal_fingerprint(hardware: Hardware, configuration: Configuration, software: Software, state: State) -> Fingerprint:
    """Return the fingerprint with the hash of each of its first three parts."""
    parts: dict[str, Any] = {"hardware": hardware, "configuration": configuration, "software": software}
    hashes = {f"{name}_sha256": sha256_of(part.to_json_dict()) for name, part in parts.items()}
    return Fingerprint(**parts, **hashes, state=state)
