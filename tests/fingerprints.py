"""Fingerprints of an invented machine, for tests."""

from typing import Any

from sdbench.schema.base import Known, Unknown
from sdbench.schema.ceilings import CeilingPrecision, Ceilings, MatrixProduct
from sdbench.schema.fingerprint import (
    Configuration,
    EnvironmentVariable,
    Fingerprint,
    GpuConfiguration,
    GpuIdentity,
    GpuState,
    Hardware,
    Package,
    Software,
    State,
    seal_fingerprint,
)

GIB = 2**30
NO_GPU = Unknown(reason="no GPU")
NOT_READABLE = Unknown(reason="/sys is not readable here")


def make_gpu() -> GpuIdentity:
    """Return the identity of one invented GPU."""
    return GpuIdentity(
        name=Known(value="NVIDIA H200"),
        mig_profile=Known(value="none"),
        memory_total_bytes=Known(value=141 * 10**9),
        compute_capability=Known(value="9.0"),
        pci_device_id=Known(value="0x233510DE"),
        multiprocessor_count=Known(value=132),
        uuid_hmac=Known(value="5f" * 32),
    )


def make_gpu_configuration() -> GpuConfiguration:
    """Return how the invented GPU is set up."""
    return GpuConfiguration(
        power_limit_w=Known(value=700.0),
        power_limit_default_w=Known(value=700.0),
        ecc_enabled=Known(value=True),
        persistence_mode=Known(value=True),
        compute_mode=Known(value="Default"),
        mig_mode=Known(value="disabled"),
        clock_max_sm_mhz=Known(value=1980),
        clock_max_memory_mhz=Known(value=3201),
        pcie_generation=Known(value=5),
        pcie_width=Known(value=16),
        bar1_total_bytes=Known(value=256 * GIB),
        numa_node=Known(value=0),
    )


def make_gpu_state() -> GpuState:
    """Return what moves on the invented GPU."""
    return GpuState(
        power_limit_enforced_w=Known(value=700.0),
        clock_sm_mhz=Known(value=345),
        throttle_bits=Known(value=1),
        memory_reserved_bytes=Known(value=GIB // 2),
        display_attached=Known(value=False),
        display_active=Known(value=False),
        ecc_corrected_count=Known(value=0),
        ecc_uncorrected_count=Known(value=0),
        remapped_row_count=Known(value=0),
    )


def make_hardware(device: str = "cpu", **changes: Any) -> Hardware:
    """Return the identity of an invented machine, with a GPU when ``device`` is CUDA."""
    given: dict[str, Any] = {
        "architecture": Known(value="x86_64"),
        "cpu_vendor": Known(value="GenuineExample"),
        "cpu_model": Known(value="Example CPU 8480"),
        "cpu_family_model_stepping": Known(value="6/143/8"),
        "cpu_flags": Known(value=("avx2", "avx512f")),
        "physical_core_count": Known(value=1),
        "logical_cpu_count": Known(value=2),
        "socket_count": Known(value=1),
        "numa_node_count": Known(value=1),
        "cache_bytes": Known(value=("L1d 32768", "L2 2097152")),
        "memory_total_bytes": Known(value=16 * GIB),
        "virtualization": Unknown(reason="systemd-detect-virt is not installed"),
        "gpus": Known(value=(make_gpu(),)) if device.startswith("cuda") else Known(value=()),
    }
    return Hardware(**{**given, **changes})


def make_configuration(device: str = "cpu", **changes: Any) -> Configuration:
    """Return how the invented machine is set up."""
    given: dict[str, Any] = {
        "cpu_governor": NOT_READABLE,
        "cpu_scaling_driver": NOT_READABLE,
        "cpu_energy_preference": NOT_READABLE,
        "cpu_boost": NOT_READABLE,
        "cpu_clock_max_khz": Known(value=3_800_000),
        "microcode": Known(value="0x2b"),
        "smt": Known(value="on"),
        "affinity_cpu_count": Known(value=2),
        "cgroup_version": Known(value="v2"),
        "cgroup_cpu_limit": Known(value="max"),
        "cgroup_memory_limit": Known(value="max"),
        "transparent_hugepage": Known(value="madvise"),
        "swap_total_bytes": Known(value=0),
        "numa_balancing": Known(value=0),
        "memory_policy": Known(value="default"),
        "affinity_numa_nodes": Known(value=(0,)),
        "vulnerabilities_mitigated": Known(value=("spectre_v2",)),
        "container": Known(value="none"),
        "gpus": Known(value=(make_gpu_configuration(),)) if device.startswith("cuda") else Known(value=()),
    }
    return Configuration(**{**given, **changes})


def make_software(device: str = "cpu", **changes: Any) -> Software:
    """Return the software of the invented machine."""
    on_cuda = device.startswith("cuda")
    given: dict[str, Any] = {
        "os_name": Known(value="Debian GNU/Linux 12"),
        "kernel": Known(value="6.1.0"),
        "libc": Known(value="glibc 2.36"),
        "python": Known(value="3.11.9"),
        "packages": Known(
            value=(
                Package(name="torch", version=Known(value="2.13.0")),
                Package(name="onnxruntime", version=Unknown(reason="not installed")),
            )
        ),
        "gpu_kernel_driver": Known(value="570.86.15") if on_cuda else NO_GPU,
        "gpu_kernel_module": Known(value="open" if on_cuda else "none"),
        "gpu_libcuda": Known(value="570.86.15") if on_cuda else NO_GPU,
        "gpu_driver_cuda": Known(value="13.0") if on_cuda else NO_GPU,
        "torch_cuda": Known(value="13.0") if on_cuda else Unknown(reason="torch was built without CUDA"),
        "cudnn": Known(value="9.13.0") if on_cuda else NO_GPU,
        "gpu_libcuda_found": Known(value=("570.86.15",) if on_cuda else ()),
        "image_digest": Unknown(reason="not in a container"),
        "image_id": Unknown(reason="not in a container"),
        "container_engine": Unknown(reason="not in a container"),
        "environment": Known(value=(EnvironmentVariable(name="OMP_NUM_THREADS", value="2"),)),
        "sdbench_version": Known(value="0.1.0"),
        "sdbench_commit": Known(value="4f1c2d3e" * 5),
        "sdbench_dirty": Known(value=False),
    }
    return Software(**{**given, **changes})


def make_state(device: str = "cpu", **changes: Any) -> State:
    """Return a quiet machine's state."""
    given: dict[str, Any] = {
        "boot_hmac": Known(value="0123456789abcdef" * 2),
        "load_average_1min": Known(value=0.12),
        "memory_available_bytes": Known(value=12 * GIB),
        "foreign_gpu_process_count": NO_GPU,
        "cpu_clock_mhz": Known(value=3500.0),
        "temperature_c": NOT_READABLE,
        "gpus": Known(value=(make_gpu_state(),)) if device.startswith("cuda") else Known(value=()),
        "ceilings": Known(value=make_ceilings(device)),
    }
    return State(**{**given, **changes})


def make_ceilings(device: str = "cpu", pace: float = 1.0, **changes: Any) -> Ceilings:
    """Return what the invented machine reaches, ``pace`` times slower than usual."""
    on_cuda = device.startswith("cuda")
    rates: dict[CeilingPrecision, float] = {"fp32": 5e13, "bf16": 7e14} if on_cuda else {"fp32": 4e11, "bf16": 1e12}
    given: dict[str, Any] = {
        "device": device,
        "threads": 2,
        "matrix_products": tuple(
            MatrixProduct(precision=name, shape="2048x2048x2048", flop_per_s=Known(value=rate / pace))
            for name, rate in rates.items()
        ),
        "memory_bytes_per_s": Known(value=(4e12 if on_cuda else 4e10) / pace),
        "to_device_bytes_per_s": Known(value=5e10 / pace) if on_cuda else NO_GPU,
        "from_device_bytes_per_s": Known(value=5e10 / pace) if on_cuda else NO_GPU,
        "launch_s": Known(value=(4e-6 if on_cuda else 4e-7) * pace),
    }
    return Ceilings(**{**given, **changes})


def make_fingerprint(device: str = "cpu", hardware: Hardware | None = None) -> Fingerprint:
    """Return the sealed fingerprint of the invented machine, with a GPU when ``device`` is CUDA."""
    hardware = hardware or make_hardware(device)
    return seal_fingerprint(hardware, make_configuration(device), make_software(device), make_state(device))
