"""What of a pipeline becomes a graph of ONNX: a part for each network, with what goes in and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sdbench.models.denoiser_inputs import denoiser_inputs
from sdbench.models.networks import dtype_of_parameter
from sdbench.models.pipeline import decodes_in_fp32
from sdbench.models.work import count_text_tokens
from sdbench.schema.pipeline import DECODER, PipelineConfig
from sdbench.schema.workload_results import ExportedPart

if TYPE_CHECKING:
    import torch

_OUTPUT = "output"
# hidden_states[-2] of transformers, which SDXL and SD3 read.
BEFORE_LAST = "before_last_layer"
_TEXT_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "CLIPTextModel": ("last_hidden_state", "pooler_output", BEFORE_LAST),
    "CLIPTextModelWithProjection": ("text_embeds", BEFORE_LAST),
    "T5EncoderModel": ("last_hidden_state",),
}
_NOT_EXPORTED: Mapping[str, str] = {"ZImageTransformer2DModel": "takes lists of tensors, which no graph of ONNX does"}
# No length is a multiple of two, so that the UNet upsamples to sizes it is given instead of doubling: only then is
# the graph right for every size. All lengths differ at every depth, so that none is taken for another.
_EXAMPLE_PATCHES = (17, 27)
_EXAMPLE_BATCH = 2
_EXAMPLE_TOKENS = 13

# An example of each input by name, with those of its dimensions that are free.
Inputs: TypeAlias = "dict[str, tuple[torch.Tensor, tuple[int, ...]]]"


@dataclass(frozen=True)
class Traceable:
    """A module as torch exports it: it takes its inputs by position and returns its outputs in this order.

    ``kept_in_fp32`` has the sorted shapes of weights that are fp32 where all others are fp16: a graph may have them
    transposed and without their names.
    """

    module: Any
    inputs: Inputs
    outputs: tuple[str, ...] = (_OUTPUT,)
    kept_in_fp32: frozenset[tuple[int, ...]] = frozenset()


def part_of(component: str) -> ExportedPart:
    """Return the part that is exported of a component: of an autoencoder the decoder."""
    return "vae_decoder" if component == DECODER else component


def find_unexportable(config: PipelineConfig) -> str | None:
    """Return which network of a pipeline cannot be exported and why, None if all can be."""
    networks = config.networks.items()
    reasons = ((name, reason) for name, item in networks if (reason := _NOT_EXPORTED.get(item.class_name)))
    return next((f"the {name} of {config.name} {reason}" for name, reason in reasons), None)


def flatten_inputs(named: Mapping[str, Any]) -> "dict[str, torch.Tensor]":
    """Return the tensors among a network's named inputs, with those in dictionaries."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for name, value in named.items():
        if isinstance(value, Mapping):
            tensors |= flatten_inputs(value)
        elif isinstance(value, torch.Tensor):
            tensors[name] = value
    return tensors


def trace_part(component: str, pipeline: Any, config: PipelineConfig) -> Traceable:
    """Return one network of a pipeline as torch exports it."""
    import torch

    network = getattr(pipeline, component)
    if component == DECODER and decodes_in_fp32(pipeline):
        network.float()
    example = _make_example(component, config, network.dtype, 0)
    tensors, larger = (flatten_inputs(item) for item in (example, _make_example(component, config, network.dtype, 1)))
    is_text = component in config.text_encoders
    outputs = _TEXT_OUTPUTS[config.networks[component].class_name] if is_text else (_OUTPUT,)

    class Module(torch.nn.Module):
        """A network called with tensors alone, which returns tensors alone."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: "torch.Tensor") -> Any:
            named = _nest(dict(zip(tensors, inputs, strict=True)), example)
            if component == DECODER:
                return self.network.decode(*named.values(), return_dict=False)[0]
            if not is_text:
                return self.network(**named, return_dict=False)[0]
            output = self.network(**named, output_hidden_states=BEFORE_LAST in outputs)
            return tuple(output.hidden_states[-2] if name == BEFORE_LAST else output[name] for name in outputs)

    return Traceable(
        module=Module(),
        inputs={name: (tensor, _differing(tensor, larger[name])) for name, tensor in tensors.items()},
        outputs=outputs,
        kept_in_fp32=frozenset(
            tuple(sorted(tensor.shape))
            for name, tensor in network.named_parameters()
            if dtype_of_parameter(network, name, torch.float16) == torch.float32
        ),
    )


def _make_example(component: str, config: PipelineConfig, dtype: "torch.dtype", growth: int) -> dict[str, Any]:
    """Return named inputs of a network; every length that is free is larger with a larger ``growth``."""
    import torch

    def make(*shape: int) -> "torch.Tensor":
        # Timesteps and guidance are one number a sample; pipelines count them in integers, or in fp32.
        return torch.zeros(shape, dtype=dtype if len(shape) > 1 else torch.float32)

    batch, tokens = _EXAMPLE_BATCH + growth, count_text_tokens(config, _EXAMPLE_TOKENS + growth)
    patch = config.pixels_per_token // config.pixels_per_latent
    rows, columns = (patch * (length + growth) for length in _EXAMPLE_PATCHES)
    if component == DECODER:
        return {"latents": make(batch, config.latent_channels, rows, columns)}
    if component in tokens:
        return {"input_ids": torch.zeros(batch, tokens[component], dtype=torch.int64)}
    inputs = denoiser_inputs(config, batch, rows, columns, tokens, make)
    if added := inputs.get("added_cond_kwargs"):
        # The UNet joins it to embeddings in fp32; torch converts it for that, and torch.onnx 2.13 writes no cast.
        added["text_embeds"] = added["text_embeds"].float()
    return inputs


def _nest(tensors: "Mapping[str, torch.Tensor]", example: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors by name in the dictionaries that ``example`` has them in."""
    return {
        name: _nest(tensors, value) if isinstance(value, Mapping) else tensors[name] for name, value in example.items()
    }


def _differing(tensor: "torch.Tensor", other: "torch.Tensor") -> tuple[int, ...]:
    """Return the dimensions in which two tensors differ."""
    return tuple(index for index, length in enumerate(tensor.shape) if length != other.shape[index])
