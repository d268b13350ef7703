"""Networks from configs: shared weights stay shared, buffers are computed, fp16 keeps some layers in fp32."""

import pytest
import torch

from sdbench.errors import UserError
from sdbench.models.networks import (
    UnknownBufferError,
    build_on_meta,
    dtype_of_parameter,
    fill_buffers,
    fill_parameters,
    name_parameters,
)
from sdbench.models.pipeline_folders import load_shipped, override
from sdbench.schema.pipeline import Component

T5 = load_shipped("tiny-flux").networks["text_encoder_2"]
SD3 = load_shipped("tiny-sd3").networks["transformer"]
QWEN = load_shipped("tiny-z-image").networks["text_encoder"]


def make_filled(component: Component, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    network: torch.nn.Module = build_on_meta(component, dtype)
    fill_parameters(network, lambda _, tensor: torch.zeros_like(tensor, device="cpu"))
    fill_buffers(network, "cpu")
    return network


def test_weights_that_two_modules_share_are_one_tensor_before_and_after_filling() -> None:
    network = build_on_meta(T5)
    assert sum(tensor.numel() for tensor in name_parameters(network).values()) == 1_048_800
    filled = make_filled(T5)
    assert filled.shared.weight is filled.encoder.embed_tokens.weight  # type: ignore[union-attr]


def test_t5_in_fp16_keeps_its_output_layers_in_fp32_as_the_real_one_does() -> None:
    dtypes = {name: tensor.dtype for name, tensor in name_parameters(build_on_meta(T5, torch.float16)).items()}
    kept = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert kept == {name for name in dtypes if name.endswith("wo.weight")} != set()
    network = build_on_meta(T5, torch.bfloat16)
    assert {tensor.dtype for tensor in network.parameters()} == {torch.bfloat16}
    assert dtype_of_parameter(network, "shared.weight", torch.float16) == torch.float16


@pytest.mark.parametrize("component", [SD3, QWEN, T5], ids=lambda component: component.class_name)
def test_buffers_are_those_that_the_class_computes(component: Component) -> None:
    from sdbench.models.libraries import class_of

    network_class = class_of(component.library, component.class_name)
    config = {key: value for key, value in component.config.items() if not key.startswith("_")}
    is_transformers = component.library == "transformers"
    built = network_class(network_class.config_class(**config)) if is_transformers else network_class(**config)
    expected = dict(built.named_buffers())
    computed = dict(make_filled(component).named_buffers())
    assert computed.keys() == expected.keys()
    assert all(torch.equal(computed[name], buffer) for name, buffer in expected.items())


def test_frequencies_of_rotary_positions_stay_in_fp32() -> None:
    buffers = dict(make_filled(QWEN, torch.bfloat16).named_buffers())
    assert {buffer.dtype for buffer in buffers.values()} == {torch.float32}


def test_unknown_buffer_is_an_error() -> None:
    network = build_on_meta(T5)
    network.register_buffer("running_mean", torch.zeros(1))
    with pytest.raises(UnknownBufferError, match="T5EncoderModel has a buffer 'running_mean' that nothing computes"):
        fill_buffers(network, "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patches": 2}, "SD3Transformer2DModel of diffusers .* does not know the config keys patches; remove them"),
        ({"patch_size": 0}, "SD3Transformer2DModel cannot be built from its config"),
    ],
)
def test_config_that_its_class_cannot_use_is_refused(changes: dict[str, int], message: str) -> None:
    component = SD3.model_copy(update={"config": SD3.config | changes})
    with pytest.raises(UserError, match=message):
        build_on_meta(component)


def test_overrides_cut_depth_at_real_width() -> None:
    config = load_shipped("flux.1-schnell")
    cut = override(config, {"transformer.num_layers": 1, "transformer.num_single_layers": 2})
    names = name_parameters(build_on_meta(cut.networks["transformer"]))
    blocks = {name.rpartition(".")[0].split(".")[:2][-1] for name in names if "blocks" in name}
    assert blocks == {"0", "1"}
    assert names["transformer_blocks.0.attn.to_q.weight"].shape == (3072, 3072)
    assert cut.digest != config.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer.layers": 2}, "the transformer of flux.1-schnell has no key 'layers'; it has .*num_layers"),
        ({"unet.num_layers": 2}, "config 'unet.num_layers' names no component of flux.1-schnell; write COMPONENT.KEY"),
        ({"num_layers": 2}, "names no component"),
        ({"transformer.num_layers": "two"}, "config 'transformer.num_layers' is 'two': expected a value like 19"),
        ({"transformer.num_layers": True}, "expected a value like 19"),
    ],
)
def test_override_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        override(load_shipped("flux.1-schnell"), changes)
