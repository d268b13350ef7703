"""diffusers and transformers, imported without their chatter."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LibraryClasses:
    """The classes a pipeline is made of: the stock ones."""

    pipeline: Any
    unet: Any
    vae: Any
    text_encoder: Any
    text_encoder_config: Any
    tokenizer: Any

    def class_of(self, component: str) -> Any:
        """Return the class of ``unet``, ``vae`` or ``text_encoder``."""
        return getattr(self, component)


def import_library_classes() -> LibraryClasses:
    """Return the stock classes, from the narrowest modules that hold them."""
    with notices_silenced():
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
        from transformers.models.clip.configuration_clip import CLIPTextConfig
        from transformers.models.clip.modeling_clip import CLIPTextModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer
    return LibraryClasses(
        pipeline=StableDiffusionPipeline,
        unet=UNet2DConditionModel,
        vae=AutoencoderKL,
        text_encoder=CLIPTextModel,
        text_encoder_config=CLIPTextConfig,
        tokenizer=CLIPTokenizer,
    )


@contextmanager
def notices_silenced() -> Iterator[None]:
    """Drop what transformers says on import (it misses torchvision, which is not used); warnings come back after."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def cast(network: Any, **target: Any) -> Any:
    """Return ``network`` on another device or in another dtype (torch's words), moved in place.

    diffusers' own method warns of modules to be kept in fp32 even where, as here, there are none.
    """
    from torch import nn

    return nn.Module.to(network, **target)


def disable_progress_bars() -> None:
    """Turn off the progress bars of loading: they would write into the worker's output."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    quieten_hub()


def quieten_hub() -> None:
    """Turn off huggingface_hub's progress bars, and the request of its own with which it describes its user."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars as disable_hub_bars

    # The library reads the variable HF_HUB_DISABLE_TELEMETRY on import, which may be long past.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        # Where the user's environment decides already, the library warns that it cannot be overruled.
        disable_hub_bars()
