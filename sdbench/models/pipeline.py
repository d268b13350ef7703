"""The stock diffusers pipeline of an experiment, ready to be called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.models.libraries import class_of, disable_progress_bars
from sdbench.models.networks import build_on_meta
from sdbench.models.pipeline_folders import find_pipeline
from sdbench.models.pretrained import check_weights, fetch_tokenizers, load_pretrained
from sdbench.models.schedulers import build_scheduler
from sdbench.models.tokenizer import DrawnTokens, build_tokenizer
from sdbench.models.weights_cache import keep_weights, load_synthetic, make_keys
from sdbench.schema.experiment import Experiment, Precision
from sdbench.schema.outcome import RecordWarning
from sdbench.schema.pipeline import PipelineConfig
from sdbench.schema.wire import Stage
from sdbench.schema.worker_environment import WeightsSource

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BuiltPipeline:
    """A pipeline, its configs, which weights it holds, how many, and where they came from.

    ``mapped_bytes`` is how much of them stays in files that are mapped.
    """

    pipeline: Any
    config: PipelineConfig
    weights_digest: str
    parameter_count: int
    weights_source: WeightsSource
    mapped_bytes: int = 0
    warnings: tuple[RecordWarning, ...] = ()

    @property
    def drawn_tokens(self) -> dict[str, int]:
        """How many ids each tokenizer gives that stands for one whose vocabulary is not here."""
        tokenizers = {name: getattr(self.pipeline, name) for name in self.config.tokenizers}
        return {name: item.model_max_length for name, item in tokenizers.items() if isinstance(item, DrawnTokens)}


def build_pipeline(experiment: Experiment, device: str, cache_folder: Path) -> BuiltPipeline:
    """Return the pipeline of ``experiment`` on ``device`` (``cpu``, ``cuda:0``), in its precision, in evaluation mode.

    Pretrained weights are read from ``cache_folder`` and downloaded into it when absent; synthetic ones that are kept
    there are mapped, and drawn when absent.

    Raises:
        UserError: the pipeline or scheduler is unknown, or the weights are not pinned.
        EnvironmentProblem: the vocabulary of CLIP is not installed.
        WeightsUnavailable: pretrained weights are not available, or not those of the experiment.
    """
    disable_progress_bars()
    config, dtype = find_pipeline(experiment, cache_folder), dtype_of(experiment.precision)
    if experiment.weights == "synthetic":
        keys = make_keys(config, experiment.weights_seed, dtype, cache_folder)
        # Another memory format copies most weights: the mapped ones would take memory next to their copies.
        networks = load_synthetic(keys, device, mapped=not experiment.channels_last)
    else:
        networks = load_pretrained(experiment, config, cache_folder, device, dtype)
    parameters = [tensor for network in networks.by_component.values() for tensor in network.parameters()]
    return BuiltPipeline(
        pipeline=assemble(experiment, config, networks.by_component, cache_folder),
        config=config,
        weights_digest=networks.digest,
        parameter_count=sum(tensor.numel() for tensor in parameters),
        weights_source=networks.source,
        mapped_bytes=networks.mapped_bytes,
        warnings=networks.warnings,
    )


def fetch_networks(experiment: Experiment, cache_folder: Path, emit_stage: Callable[[Stage], None]) -> None:
    """Put weights that are not in ``cache_folder`` yet there: download pretrained ones, draw synthetic ones.

    Raises:
        UserError: the pipeline is unknown, or the weights are not pinned.
        WeightsUnavailable: pretrained weights are not available.
    """
    config, dtype = find_pipeline(experiment, cache_folder), dtype_of(experiment.precision)
    if experiment.weights == "pretrained":
        check_weights(experiment, config, cache_folder)
        return
    keep_weights(make_keys(config, experiment.weights_seed, dtype, cache_folder), lambda: emit_stage("draw"))


def build_pipeline_around(
    experiment: Experiment, make_network: Callable[[str, Any], Any], cache_folder: Path
) -> tuple[Any, PipelineConfig]:
    """Return the pipeline of ``experiment`` around networks that something else runs, and its configs.

    ``make_network`` gets the name of a component and the config that the stock network of that component would have.

    Raises:
        UserError: the pipeline or scheduler is unknown, or the weights are not pinned.
        EnvironmentProblem: the vocabulary of CLIP is not installed.
        WeightsUnavailable: the tokenizer of pretrained weights is not available.
    """
    disable_progress_bars()
    config = find_pipeline(experiment, cache_folder)
    networks = {name: make_network(name, build_on_meta(item).config) for name, item in config.networks.items()}
    return assemble(experiment, config, networks, cache_folder), config


def dtype_of(precision: Precision) -> "torch.dtype":
    """Return torch's type of a precision."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def decodes_in_fp32(pipeline: Any) -> bool:
    """Return whether the stock pipeline decodes in fp32 where all else is fp16, in which the VAE of SDXL overflows."""
    import torch

    vae = pipeline.vae
    return vae.dtype == torch.float16 and bool(vae.config.force_upcast) and hasattr(pipeline, "upcast_vae")


def build_tokenizers(config: PipelineConfig, max_sequence_length: int | None) -> dict[str, Any]:
    """Return the tokenizers for synthetic weights: CLIP's, and stand-ins for those whose vocabulary is on the hub.

    Raises:
        EnvironmentProblem: the vocabulary of CLIP is not installed.
    """
    tokenizers: dict[str, Any] = {}
    for name, facts in config.tokenizers.items():
        encoder = config.networks[name.replace("tokenizer", "text_encoder")]
        if encoder.class_name.startswith("CLIP"):
            tokenizers[name] = build_tokenizer(facts["pad_token"])
        else:
            tokenizers[name] = DrawnTokens(encoder.config["vocab_size"], config.prompt_tokens(max_sequence_length))
    return tokenizers


def assemble(experiment: Experiment, config: PipelineConfig, networks: Mapping[str, Any], cache_folder: Path) -> Any:
    """Return the stock pipeline of ``experiment`` around ``networks``; raises as ``build_pipeline``."""
    pretrained = experiment.weights == "pretrained"
    tokenizers = fetch_tokenizers(experiment, config, cache_folder) if pretrained else None
    if tokenizers is None:
        tokenizers = build_tokenizers(config, experiment.max_sequence_length)
    # What an older repository of SD 1.x names too, and is not measured.
    optional = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    flags = config.flags | {"requires_safety_checker": False}
    pipeline_class = class_of("diffusers", config.class_name)
    accepted = signature(pipeline_class.__init__).parameters
    left_out = dict.fromkeys(name for name in accepted if name.startswith(("text_encoder", "tokenizer")))
    pipeline = pipeline_class(
        **(left_out | dict(networks) | tokenizers),
        **{name: value for name, value in (optional | flags).items() if name in accepted},
        scheduler=build_scheduler(experiment.scheduler, config.scheduler, experiment.timestep_spacing),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
