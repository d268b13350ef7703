"""Which GPUs CUDA shows to a process, in CUDA's order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sdbench.probes.nvml import Nvml, is_slice
from sdbench.probes.nvml_library import Address
from sdbench.probes.readings import value_or
from sdbench.schema.base import Known

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class VisibleGpu:
    """A card, with NVML's index, or a MIG slice of one, which has none. The UUID is never stored or printed."""

    index: int | None
    uuid: str | None

    @property
    def address(self) -> Address:
        """What NVML is asked by: the index only where the driver does not give the UUID."""
        return self.uuid or self.index or 0


def list_visible_gpus(nvml: Nvml, environ: Mapping[str, str]) -> tuple[VisibleGpu, ...]:
    """Return the GPUs that CUDA shows under CUDA_VISIBLE_DEVICES and ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.

    CUDA shows one MIG slice at most, and no card next to it (NVIDIA MIG User Guide, CUDA Device Enumeration). A card in
    MIG mode without a visible slice stays in the list: it is refused by name.
    """
    cards = [VisibleGpu(index, value_or(nvml.uuid(index), None)) for index in range(value_or(nvml.device_count(), 0))]
    variable = environ.get(VISIBLE_DEVICES)
    chosen = cards if variable is None else _resolve(nvml, cards, variable)
    gpus = [part for gpu in chosen for part in _divide(nvml, gpu)]
    return tuple([gpu for gpu in gpus if is_slice(gpu.address)][:1] or gpus)


def _divide(nvml: Nvml, gpu: VisibleGpu) -> Sequence[VisibleGpu]:
    """Return the visible MIG slices of a card; itself where it has none."""
    if is_slice(gpu.address) or value_or(nvml.mig_mode(gpu.address), "off") == "off":
        return (gpu,)
    return [VisibleGpu(None, uuid) for uuid in value_or(nvml.slices(gpu.address), ())] or (gpu,)


def _resolve(nvml: Nvml, cards: Sequence[VisibleGpu], variable: str) -> list[VisibleGpu]:
    """Return what CUDA_VISIBLE_DEVICES names; an entry that CUDA cannot resolve ends the list."""
    visible: list[VisibleGpu] = []
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isdecimal():
            matches = list(cards[int(entry) :][:1])
        elif is_slice(entry):
            uuid = nvml.uuid(entry)
            matches = [VisibleGpu(None, uuid.value)] if isinstance(uuid, Known) else []
        else:
            matches = [card for card in cards if entry.startswith("GPU-") and (card.uuid or "").startswith(entry)]
        if len(matches) != 1 or matches[0] in visible:
            break
        visible += matches
    return visible
