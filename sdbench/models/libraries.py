"""diffusers and transformers, imported without their messages."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from sdbench.schema.outcome import RecordWarning, WeightsSource


@dataclass(frozen=True)
class Networks:
    """The networks of a pipeline by component, and a digest of their weights.

    ``mapped_bytes`` is how much of the weights stays in a file that is mapped.
    """

    by_component: dict[str, Any]
    digest: str
    source: WeightsSource
    mapped_bytes: int = 0
    warnings: tuple[RecordWarning, ...] = ()


def name_parameters(networks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of all networks by the name of their component and their own."""
    return {
        f"{component}.{name}": tensor
        for component, network in networks.items()
        for name, tensor in network.named_parameters()
    }


@cache
def library_classes() -> dict[str, Any]:
    """Return the stock classes that a pipeline is made of, from the narrowest modules that hold them."""
    with messages_silenced(), cuda_left_alone():
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
        from transformers.models.clip.configuration_clip import CLIPTextConfig
        from transformers.models.clip.modeling_clip import CLIPTextModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer
    return {
        "pipeline": StableDiffusionPipeline,
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_config": CLIPTextConfig,
        "tokenizer": CLIPTokenizer,
    }


@contextmanager
def cuda_left_alone() -> Iterator[None]:
    """Import diffusers without its question to torch whether there is a GPU, which it repeats when it needs to know.

    Asking initializes CUDA, and a process that is forked afterwards cannot use the GPU.
    """
    import torch

    is_available = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = is_available
        from diffusers.utils.torch_utils import TorchDeviceBackend

        TorchDeviceBackend._detect_device_type.cache_clear()  # noqa: SLF001 - it remembers the answer


@contextmanager
def messages_silenced() -> Iterator[None]:
    """Drop what transformers logs on import (it misses torchvision, which is not used); warnings come back after."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def cast(network: Any, **target: Any) -> Any:
    """Return ``network`` on another device or in another dtype (torch's arguments), moved in place.

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
