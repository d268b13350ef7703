"""Architectures as data: the configs of their networks, and what follows from them without building any."""

import json
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from sdbench.errors import UserError
from sdbench.models import ARCHITECTURES
from sdbench.schema.base import Model, PositiveInt

# The networks that hold weights, largest first.
COMPONENTS = ("unet", "vae", "text_encoder")


class ParameterCounts(Model):
    """How many weights each network has."""

    unet: PositiveInt
    vae: PositiveInt
    text_encoder: PositiveInt


class Architecture(Model):
    """The configs of a pipeline's networks and of its scheduler, in the words of diffusers and transformers."""

    name: str
    summary: str
    parameter_counts: ParameterCounts
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    @property
    def parameter_count(self) -> int:
        """The number of weights of all networks together."""
        counts = self.parameter_counts
        return counts.unet + counts.vae + counts.text_encoder

    @property
    def image_px_per_latent(self) -> int:
        """How many pixels of the image's side one latent stands for: each VAE block but the last halves the side."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    def config_of(self, component: str) -> dict[str, Any]:
        """Return the config of ``unet``, ``vae`` or ``text_encoder``."""
        config: dict[str, Any] = getattr(self, component)
        return config


def load_architecture(name: str) -> Architecture:
    """Return the architecture called ``name``.

    Raises:
        UserError: there is no architecture of that name.
    """
    if name not in ARCHITECTURES:
        nearest = get_close_matches(name, ARCHITECTURES, n=1, cutoff=0.3)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise UserError(f"unknown architecture {name!r}; {hint}known architectures: {', '.join(sorted(ARCHITECTURES))}")
    text = files("sdbench.models").joinpath("configs", ARCHITECTURES[name]).read_text(encoding="utf-8")
    return Architecture.model_validate(json.loads(text))
