"""Who measured: hardware, configuration, software and state, each with its own hash but the last."""

from pydantic import FiniteFloat

from sdbench.schema.base import Count, Model, Reading, Sha256, sha256_of


class GpuIdentity(Model):
    """What a GPU is. The UUID only as an HMAC salted on this host, so that it links records but names nothing."""

    index: Count
    name: Reading[str]
    memory_total_bytes: Reading[int]
    compute_capability: Reading[str]
    pci_device_id: Reading[str]
    multiprocessor_count: Reading[int]
    uuid_hmac: Reading[str]


class Hardware(Model):
    """The machine's identity."""

    architecture: Reading[str]
    cpu_vendor: Reading[str]
    cpu_model: Reading[str]
    cpu_family_model_stepping: Reading[str]
    cpu_flags: Reading[tuple[str, ...]]
    physical_core_count: Reading[int]
    logical_cpu_count: Reading[int]
    socket_count: Reading[int]
    numa_node_count: Reading[int]
    cache_bytes: Reading[tuple[str, ...]]
    memory_total_bytes: Reading[int]
    virtualization: Reading[str]
    gpus: Reading[tuple[GpuIdentity, ...]]


class GpuConfiguration(Model):
    """How a GPU is set up."""

    index: Count
    power_limit_w: Reading[float]
    power_limit_default_w: Reading[float]
    ecc_enabled: Reading[bool]
    persistence_mode: Reading[bool]
    compute_mode: Reading[str]
    mig_mode: Reading[str]
    application_clock_sm_mhz: Reading[int]
    clock_max_sm_mhz: Reading[int]
    clock_max_memory_mhz: Reading[int]
    pcie_generation: Reading[int]
    pcie_width: Reading[int]


class Configuration(Model):
    """How the machine is set up: what can be changed without buying another."""

    cpu_governor: Reading[str]
    cpu_boost: Reading[str]
    cpu_clock_max_khz: Reading[int]
    microcode: Reading[str]
    smt: Reading[str]
    affinity_cpu_count: Reading[int]
    cgroup_version: Reading[str]
    cgroup_cpu_limit: Reading[str]
    cgroup_memory_limit: Reading[str]
    transparent_hugepage: Reading[str]
    swap_total_bytes: Reading[int]
    vulnerabilities_mitigated: Reading[tuple[str, ...]]
    container: Reading[str]
    gpus: Reading[tuple[GpuConfiguration, ...]]


class Package(Model):
    """An installed distribution that affects the figures."""

    name: str
    version: Reading[str]


class EnvironmentVariable(Model):
    """A set environment variable that affects speed; paths of the user are replaced."""

    name: str
    value: str


class ContainerEngine(Model):
    """What runs the container, as its launcher told it: none of this can be seen from inside."""

    engine_version: Reading[str]
    host_os: Reading[str]
    runtime: Reading[str]
    storage_driver: Reading[str]
    cgroup_driver: Reading[str]
    cgroup_version: Reading[str]
    security_options: Reading[tuple[str, ...]]
    nvidia_toolkit: Reading[str]


class Software(Model):
    """What runs: kernel driver and user-mode libcuda apart, because they may differ.

    ``gpu_libcuda`` is the one that the loader takes, ``gpu_libcuda_found`` all that it could: a compatibility package
    beside the one that belongs to the driver. ``image_digest`` is how a registry serves the image, ``image_id`` how the
    engine keeps it.
    """

    os_name: Reading[str]
    kernel: Reading[str]
    libc: Reading[str]
    python: Reading[str]
    packages: Reading[tuple[Package, ...]]
    gpu_kernel_driver: Reading[str]
    gpu_libcuda: Reading[str]
    gpu_libcuda_found: Reading[tuple[str, ...]]
    gpu_driver_cuda: Reading[str]
    torch_cuda: Reading[str]
    cudnn: Reading[str]
    image_digest: Reading[str]
    image_id: Reading[str]
    container_engine: Reading[ContainerEngine]
    environment: Reading[tuple[EnvironmentVariable, ...]]
    sdbench_version: Reading[str]
    sdbench_commit: Reading[str]
    sdbench_dirty: Reading[bool]


class State(Model):
    """What the machine was doing before the run: never hashed. The time series is the bundle's telemetry file.

    ``boot_hmac`` tells one boot from another, and names neither: an HMAC salted on this host.
    """

    boot_hmac: Reading[str]

    load_average_1min: Reading[float]
    memory_available_bytes: Reading[int]
    foreign_gpu_process_count: Reading[int]
    cpu_clock_mhz: Reading[FiniteFloat]
    temperature_c: Reading[FiniteFloat]


class Fingerprint(Model):
    """The four parts. Two machines are compared part by part, never by one hash."""

    hardware: Hardware
    hardware_sha256: Sha256
    configuration: Configuration
    configuration_sha256: Sha256
    software: Software
    software_sha256: Sha256
    state: State


def seal_fingerprint(hardware: Hardware, configuration: Configuration, software: Software, state: State) -> Fingerprint:
    """Return the fingerprint with the hash of each of its first three parts."""
    return Fingerprint(
        hardware=hardware,
        hardware_sha256=sha256_of(hardware.to_json_dict()),
        configuration=configuration,
        configuration_sha256=sha256_of(configuration.to_json_dict()),
        software=software,
        software_sha256=sha256_of(software.to_json_dict()),
        state=state,
    )
