"""Where the configs of two pipelines of one class describe other networks: what both leave out is the default."""

from collections.abc import Iterator, Mapping
from inspect import Parameter, signature
from typing import Any

from sdbench.models.libraries import class_of
from sdbench.schema.pipeline import Component, PipelineConfig

# What no weight and no result of a trained network depends on: notes, the size it was trained for, how it is trained,
# the ids of tokens, which come from the tokenizer, and heads and decoders, which are not measured.
_FREE = frozenset(
    {
        "architectures", "attention_dropout", "bos_token_id", "classifier_dropout", "decoder_start_token_id",
        "dropout", "dropout_rate", "dtype", "eos_token_id", "gradient_checkpointing", "initializer_factor",
        "initializer_range", "is_encoder_decoder", "model_type", "output_past", "pad_token_id", "projection_dim",
        "sample_size", "task_specific_params", "tie_word_embeddings", "torch_dtype", "transformers_version",
        "use_cache",
    }
)  # fmt: skip
_NAMES_SHOWN = 5


def describe_differences(expected: Component, config: Mapping[str, Any]) -> str:
    """Return the keys with which a config describes another network than ``expected``, and both values; or nothing."""
    own, other = complete_config(expected), complete_config(expected.model_copy(update={"config": dict(config)}))
    different = [key for key in own if _normal(own[key]) != _normal(other.get(key))]
    return ", ".join(f"{key} {other.get(key)!r} instead of {own[key]!r}" for key in different[:_NAMES_SHOWN])


def complete_config(component: Component) -> dict[str, Any]:
    """Return a config with the defaults of its class for the keys that it leaves out, without those that are free."""
    written = {key: value for key, value in component.config.items() if not key.startswith("_")}
    owner = class_of(component.library, component.class_name)
    if component.library == "transformers":
        completed = owner.config_class.from_dict(written).to_dict()
    else:
        completed = dict(_defaults_of(owner)) | written
        completed = {key: completed[key] for key, _ in _defaults_of(owner)}
    return {key: value for key, value in completed.items() if key not in _FREE and not key.startswith("_")}


def find_same(config: PipelineConfig, others: Mapping[str, PipelineConfig]) -> str | None:
    """Return the name of the first of the others that has the same class, networks and scheduler."""
    return next((name for name, other in others.items() if _are_same(config, other)), None)


def _are_same(config: PipelineConfig, other: PipelineConfig) -> bool:
    parts, other_parts = ({**item.networks, "scheduler": item.scheduler} for item in (config, other))
    if config.class_name != other.class_name or parts.keys() != other_parts.keys():
        return False
    pairs = [(parts[name], other_parts[name]) for name in parts]
    return all(own.class_name == one.class_name and not describe_differences(own, one.config) for own, one in pairs)


def _defaults_of(owner: type) -> Iterator[tuple[str, Any]]:
    for name, parameter in list(signature(owner.__init__).parameters.items())[1:]:  # type: ignore[misc]
        yield name, None if parameter.default is Parameter.empty else parameter.default


def _normal(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
