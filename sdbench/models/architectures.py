"""Architectures as data: the configs of their networks, and what follows from them without building any."""

from importlib.resources import files
from typing import Any

from sdbench.errors import UserError
from sdbench.schema.base import Model, PositiveInt

# The networks that hold weights, largest first.
COMPONENTS = ("unet", "vae", "text_encoder")


class Architecture(Model):
    """The configs of a pipeline's networks and of its scheduler, with the keys of diffusers and transformers."""

    name: str
    summary: str
    parameter_counts: dict[str, PositiveInt]
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    @property
    def parameter_count(self) -> int:
        """The number of weights of all networks together."""
        return sum(self.parameter_counts.values())

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The configs of ``unet``, ``vae`` and ``text_encoder``."""
        return {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}


def load_architecture(name: str) -> Architecture:
    """Return the architecture called ``name``.

    Raises:
        UserError: there is none of that name.
    """
    configs = {path.name.removesuffix(".json"): path for path in files("sdbench.models").joinpath("configs").iterdir()}
    if name not in configs:
        raise UserError(f"unknown architecture {name!r}; choose one of: {', '.join(sorted(configs))}")
    return Architecture.model_validate_json(configs[name].read_bytes())
