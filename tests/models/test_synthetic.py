from functools import cache
from pathlib import Path

import pytest
import torch

from sdbench.models import synthetic
from sdbench.models.networks import Networks, UnknownBufferError, build_on_meta
from sdbench.models.pipeline_folders import load_shipped
from sdbench.models.synthetic import seed_of
from sdbench.models.weights_cache import load_synthetic, make_keys
from sdbench.schema.pipeline import Component

TINY = load_shipped("tiny-sd")
NO_CACHE = Path("/nonexistent")


def build(weights_seed: int = 0, dtype: torch.dtype = torch.float32, order: int = 1) -> Networks:
    return load_synthetic(make_keys(TINY, weights_seed, dtype, NO_CACHE)[::order], "cpu")


@cache
def built() -> Networks:
    return build()


def tensors_of(networks: Networks) -> dict[str, torch.Tensor]:
    return {
        f"{component}.{name}": tensor
        for component, network in networks.by_component.items()
        for name, tensor in network.named_parameters()
    }


def test_the_same_seed_gives_the_same_weights_and_digest() -> None:
    first, second = tensors_of(built()), tensors_of(build())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert build().digest == built().digest
    assert built().digest.startswith("synthetic:")


def test_another_seed_gives_other_weights_and_another_digest() -> None:
    other = build(weights_seed=1)
    assert other.digest != built().digest
    name = "unet.conv_in.weight"
    assert not torch.equal(tensors_of(other)[name], tensors_of(built())[name])


def test_the_order_of_filling_does_not_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_THREADS_MAX", 1)
    reordered = build(order=-1)
    expected = tensors_of(built())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors_of(reordered).items())
    assert reordered.digest == built().digest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_another_dtype_holds_the_same_values_rounded(dtype: torch.dtype) -> None:
    rounded = build(dtype=dtype)
    exact = tensors_of(built())
    assert rounded.digest == built().digest
    for name, tensor in tensors_of(rounded).items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, exact[name].to(dtype))


def test_matrices_are_scaled_by_their_fan_in() -> None:
    kernel = tensors_of(built())["unet.mid_block.resnets.0.conv1.weight"]
    fan_in = kernel.shape[1] * kernel.shape[2] * kernel.shape[3]
    assert kernel.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
    assert kernel.mean().item() == pytest.approx(0, abs=0.01)


def test_norms_vary_about_one_and_biases_about_zero() -> None:
    tensors = tensors_of(built())
    norm, bias = tensors["unet.conv_norm_out.weight"], tensors["unet.conv_norm_out.bias"]
    assert norm.mean().item() == pytest.approx(1, abs=0.1)
    assert bias.mean().item() == pytest.approx(0, abs=0.1)
    assert 0 < norm.std().item() < 0.2
    assert 0 < bias.std().item() < 0.2


def test_every_vector_that_is_no_bias_belongs_to_a_norm() -> None:
    vectors = [name for name, tensor in tensors_of(built()).items() if tensor.ndim == 1 and not name.endswith("bias")]
    assert vectors
    assert all("norm" in name for name in vectors)


def test_no_two_tensors_share_their_seed() -> None:
    names = tensors_of(built())
    assert len({seed_of(0, name) for name in names}) == len(names)


def test_positions_are_counted_and_not_left_over_from_memory() -> None:
    positions = dict(built().by_component["text_encoder"].named_buffers())["embeddings.position_ids"]
    assert positions.tolist() == [list(range(77))]


def test_an_unknown_buffer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_with_a_buffer(component: Component, dtype: torch.dtype) -> torch.nn.Module:
        network: torch.nn.Module = build_on_meta(component, dtype)
        network.register_buffer("running_mean", torch.zeros(1))
        return network

    monkeypatch.setattr(synthetic, "build_on_meta", build_with_a_buffer)
    with pytest.raises(UnknownBufferError, match="running_mean"):
        build()


def test_a_generator_that_draws_other_values_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_NORM_STD", 0.05001)
    assert build().digest != built().digest


def test_the_networks_are_frozen_and_in_evaluation_mode() -> None:
    for network in built().by_component.values():
        assert not network.training
        assert not any(tensor.requires_grad for tensor in network.parameters())
