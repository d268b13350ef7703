"""What a stock pipeline calls in place of its networks: modules around graphs that onnxruntime runs."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sdbench.backends.onnx_parts import BEFORE_LAST, flatten_inputs
from sdbench.backends.onnx_session import GraphRunner
from sdbench.schema.pipeline import DECODER, PipelineConfig

if TYPE_CHECKING:
    import torch


def make_network(
    component: str, stock_config: Any, config: PipelineConfig, runner: GraphRunner, dtype: "torch.dtype"
) -> Any:
    """Return the module that stands for a component; ``stock_config`` is the config the stock network would have."""
    if component == DECODER:
        return _make_autoencoder(stock_config, config, runner, dtype)
    if component in config.text_encoders:
        return _make_module(partial(_encode, runner), config=stock_config, device=runner.device, dtype=dtype)
    # SDXL's pipeline compares the width of this layer with what it is about to put in.
    width = config.denoiser.get("projection_class_embeddings_input_dim")
    return _make_module(
        partial(_denoise, runner),
        config=stock_config,
        device=runner.device,
        dtype=dtype,
        cache_context=nullcontext,
        add_embedding=SimpleNamespace(linear_1=SimpleNamespace(in_features=width)),
    )


def _make_module(compute: Callable[..., Any], **attributes: Any) -> Any:
    import torch

    class Network(torch.nn.Module):
        """A module whose forward pass runs elsewhere, and that hooks can be put on."""

        def __init__(self) -> None:
            super().__init__()
            for name, value in attributes.items():
                setattr(self, name, value)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return compute(*args, **kwargs)

    return Network()


def _make_autoencoder(stock_config: Any, config: PipelineConfig, runner: GraphRunner, dtype: "torch.dtype") -> Any:
    import torch

    class Autoencoder(torch.nn.Module):
        """The half of an autoencoder that makes images."""

        def __init__(self) -> None:
            super().__init__()
            self.config = stock_config
            self.device = runner.device
            self.decoder = _make_module(partial(_decode, runner, config))
            # SDXL's pipeline converts the VAE to fp32 and back, and reads from this layer what the latents should be.
            self.post_quant_conv = torch.nn.Linear(1, 1, device=runner.device, dtype=dtype)

        @property
        def dtype(self) -> "torch.dtype":
            """The type of the latents that it takes."""
            return self.post_quant_conv.weight.dtype

        def decode(self, latents: Any, **_: Any) -> tuple[Any]:
            """Return the images, (batch, 3, height, width), as the one element that the pipeline expects."""
            return (self.decoder(latents),)

    return Autoencoder()


def _denoise(runner: GraphRunner, *args: Any, **kwargs: Any) -> tuple[Any]:
    """Return what the denoiser predicts, in the shape of the latents that it gets as its first input."""
    # UNets are called with these two by position, transformers with none.
    inputs = flatten_inputs(dict(zip(("sample", "timestep"), args, strict=False)) | kwargs)
    latents = inputs["hidden_states" if "hidden_states" in inputs else "sample"]
    (output,) = runner.run(inputs, lambda _item: tuple(latents.shape)).values()
    return (output,)


def _decode(runner: GraphRunner, config: PipelineConfig, latents: Any) -> Any:
    batch, _, rows, columns = latents.shape
    scale = config.pixels_per_latent
    shape = (batch, config.decoder["out_channels"], rows * scale, columns * scale)
    (image,) = runner.run({"latents": latents}, lambda _item: shape).values()
    return image


class _TextOutput(SimpleNamespace):
    """What a text encoder returns: its outputs by name, and in their order by number."""

    def __getitem__(self, index: int) -> Any:
        return tuple(vars(self).values())[index]


def _encode(runner: GraphRunner, input_ids: Any, **kwargs: Any) -> _TextOutput:
    """Return what a text encoder makes of prompts; of its hidden states the only one that pipelines read."""
    outputs: dict[str, Any] = runner.run(
        flatten_inputs({"input_ids": input_ids} | kwargs),
        # One vector for each token, or for each prompt.
        lambda item: (*input_ids.shape[: len(item.shape) - 1], item.shape[-1]),
    )
    if BEFORE_LAST in outputs:
        outputs["hidden_states"] = (outputs.pop(BEFORE_LAST), None)
    return _TextOutput(**outputs)
