"""The stock pipeline's networks as thin torch modules around sessions of onnxruntime."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sdbench.backends.diffusers_call import PIXELS_PER_LATENT
from sdbench.backends.onnx_session import GraphRunner
from sdbench.schema.study import ExportedPart

if TYPE_CHECKING:
    import torch

_IMAGE_CHANNELS = 3
PART_OF: dict[str, ExportedPart] = {"unet": "unet", "vae": "vae_decoder", "text_encoder": "text_encoder"}


def make_network(component: str, config: Any, runner: GraphRunner, device: Any, dtype: Any) -> Any:
    """Return what the pipeline calls as ``unet``, ``vae`` or ``text_encoder``: a module with no weights of its own."""
    import torch

    forward = _FORWARDS[component](config, runner, device, dtype)

    class Network(torch.nn.Module):
        """A module whose forward pass runs elsewhere."""

        def __init__(self) -> None:
            super().__init__()
            self.config = config
            self.device = device
            self.dtype = dtype

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return forward(*args, **kwargs)

    if component != "vae":
        return Network()

    class Autoencoder(Network):
        """The half of an autoencoder that makes images, with its decoder as a module that hooks can be put on."""

        def __init__(self) -> None:
            super().__init__()
            self.decoder = Network()

        def decode(self, latents: Any, **_: Any) -> tuple[Any]:
            """Return the images, (batch, 3, height, width), as the one element that the pipeline asks for."""
            return (self.decoder(latents),)

    return Autoencoder()


def _unet(config: Any, runner: GraphRunner, device: "torch.device", dtype: "torch.dtype") -> Callable[..., Any]:
    import torch

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **_: Any) -> tuple[Any]:
        batch, _channels, height, width = sample.shape
        inputs = {
            "sample": sample,
            "timestep": timestep.to(device, torch.float32),
            "encoder_hidden_states": encoder_hidden_states,
        }
        output = torch.empty((batch, config.out_channels, height, width), device=device, dtype=dtype)
        return (runner.run(inputs, output),)

    return forward


def _decoder(_config: Any, runner: GraphRunner, device: "torch.device", dtype: "torch.dtype") -> Callable[..., Any]:
    import torch

    def forward(latents: Any) -> Any:
        batch, _channels, height, width = latents.shape
        shape = (batch, _IMAGE_CHANNELS, height * PIXELS_PER_LATENT, width * PIXELS_PER_LATENT)
        return runner.run({"latents": latents}, torch.empty(shape, device=device, dtype=dtype))

    return forward


def _text_encoder(config: Any, runner: GraphRunner, device: "torch.device", dtype: "torch.dtype") -> Callable[..., Any]:
    import torch

    def forward(input_ids: Any, **_: Any) -> tuple[Any]:
        output = torch.empty((*input_ids.shape, config.hidden_size), device=device, dtype=dtype)
        return (runner.run({"input_ids": input_ids}, output),)

    return forward


_FORWARDS: dict[str, Callable[..., Callable[..., Any]]] = {
    "unet": _unet,
    "vae": _decoder,
    "text_encoder": _text_encoder,
}
