"""The peaks that vendors state for their devices, next to what was measured: never in its place."""

import re

from sdbench.schema.base import Model
from sdbench.schema.ceilings import CeilingPrecision

_TERA, _GIGA = 1e12, 1e9


class DataSheet(Model):
    """A device's peaks: of dense matrices, with sums in fp32 as torch asks for; None where it has no such units."""

    name: str
    fp32_tflop_per_s: float
    tf32_tflop_per_s: float | None
    fp16_tflop_per_s: float
    bf16_tflop_per_s: float | None
    memory_gb_per_s: float
    source: str

    def flop_per_s(self, precision: CeilingPrecision) -> float | None:
        """Return the peak of matrix products; without TF32 they are computed in fp32."""
        tera = {
            "fp32": self.fp32_tflop_per_s,
            "tf32": self.tf32_tflop_per_s or self.fp32_tflop_per_s,
            "fp16": self.fp16_tflop_per_s,
            "bf16": self.bf16_tflop_per_s,
        }[precision]
        return None if tera is None else tera * _TERA

    @property
    def memory_bytes_per_s(self) -> float:
        """The peak of the device's memory."""
        return self.memory_gb_per_s * _GIGA


_AMPERE = "NVIDIA Ampere GA102 GPU architecture whitepaper, appendix A"
_HOPPER = "NVIDIA H100 Tensor Core GPU data sheet (half of its values, which are with sparsity)"
# A pattern of the name that the driver gives, and what is stated. TFLOP/s: fp32, TF32, fp16, bf16; memory in GB/s.
# GeForce cards sum in fp32 at half the rate.
_SHEETS: tuple[tuple[str, tuple[float, float | None, float, float | None, float], str], ...] = (
    ("A100 80GB PCIe|A100-PCIE-80GB", (19.5, 156, 312, 312, 1935), "NVIDIA A100 data sheet"),
    (r"A100-SXM\d?-80GB", (19.5, 156, 312, 312, 2039), "NVIDIA A100 data sheet"),
    (r"A100-(SXM\d?|PCIE)-40GB", (19.5, 156, 312, 312, 1555), "NVIDIA A100 40GB data sheet"),
    ("H100 PCIe", (51, 378, 756, 756, 2000), _HOPPER),
    ("H100 NVL", (60, 417.5, 835.5, 835.5, 3900), _HOPPER),
    ("H100 80GB HBM3", (67, 494.5, 989.5, 989.5, 3350), _HOPPER),
    ("H200", (67, 494.5, 989.5, 989.5, 4800), "NVIDIA H200 data sheet (half of its values with sparsity)"),
    ("L40S", (91.6, 183, 362.05, 362.05, 864), "NVIDIA L40S data sheet"),
    ("L4", (30.3, 60, 121, 121, 300), "NVIDIA L4 data sheet (half of its values with sparsity)"),
    ("A10", (31.2, 62.5, 125, 125, 600), "NVIDIA A10 data sheet"),
    ("RTX A6000", (38.7, 77.4, 154.8, 154.8, 768), _AMPERE),
    (
        "RTX A5500",
        (34.1, 68.2, 136.4, 136.4, 768),
        "NVIDIA RTX A5500 data sheet (half of its value with sparsity, which is of fp16; TF32 half of that)",
    ),
    ("RTX 3080", (29.8, 29.8, 59.5, 59.5, 760), f"{_AMPERE} (10 GB)"),
    ("RTX 3090", (35.6, 35.6, 71, 71, 936), _AMPERE),
    ("RTX 4090", (82.6, 82.6, 165.2, 165.2, 1008), "NVIDIA Ada GPU architecture whitepaper, appendix A"),
    ("RTX 5090", (104.8, 104.8, 209.5, 209.5, 1792), "NVIDIA RTX Blackwell GPU architecture whitepaper, appendix A"),
    (r"V100-SXM2-\d+GB", (15.7, None, 125, None, 900), "NVIDIA V100 data sheet"),
    (r"V100-PCIE-\d+GB", (14, None, 112, None, 900), "NVIDIA V100 data sheet"),
    ("T4", (8.1, None, 65, None, 320), "NVIDIA Turing GPU architecture whitepaper, appendix C"),
    ("Quadro RTX 8000", (16.3, None, 130.5, None, 672), "NVIDIA Quadro RTX 8000 data sheet"),
)


def find_data_sheet(device_name: str) -> DataSheet | None:
    """Return what the vendor states of the device that its driver calls ``device_name``; None where that is not known.

    A MIG slice, a laptop's GPU, or a variant such as "Ti" is another device.
    """
    name = re.sub(r"^(NVIDIA |Tesla |GeForce )+", "", device_name)
    for pattern, (fp32, tf32, fp16, bf16, memory), source in _SHEETS:
        if re.fullmatch(pattern, name, re.IGNORECASE):
            return DataSheet(
                name=device_name,
                fp32_tflop_per_s=fp32,
                tf32_tflop_per_s=tf32,
                fp16_tflop_per_s=fp16,
                bf16_tflop_per_s=bf16,
                memory_gb_per_s=memory,
                source=source,
            )
    return None
