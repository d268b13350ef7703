"""The stock diffusers pipeline of an experiment, ready to be called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import UserError
from sdbench.models.architectures import COMPONENTS, Architecture, load_architecture
from sdbench.models.libraries import disable_progress_bars, library_classes
from sdbench.models.pretrained import fetch_tokenizer, fetch_weights, load_pretrained
from sdbench.models.synthetic import build_on_meta
from sdbench.models.tokenizer import build_tokenizer
from sdbench.models.weights_cache import WeightsKey, keep_weights, load_synthetic
from sdbench.schema.experiment import Experiment, Precision
from sdbench.schema.outcome import RecordWarning, WeightsSource
from sdbench.schema.wire import Stage

if TYPE_CHECKING:
    import torch

# module:class in diffusers; importing one of them costs seconds, so the table holds strings.
SCHEDULERS: dict[str, str] = {
    "pndm": "diffusers.schedulers.scheduling_pndm:PNDMScheduler",
    "ddim": "diffusers.schedulers.scheduling_ddim:DDIMScheduler",
    "euler": "diffusers.schedulers.scheduling_euler_discrete:EulerDiscreteScheduler",
    "dpm++": "diffusers.schedulers.scheduling_dpmsolver_multistep:DPMSolverMultistepScheduler",
}


@dataclass(frozen=True)
class BuiltPipeline:
    """A pipeline, which weights it holds, how many, and where they came from.

    ``mapped_bytes`` is how much of them stays in a file that is mapped.
    """

    pipeline: Any
    weights_digest: str
    parameter_count: int
    weights_source: WeightsSource
    mapped_bytes: int = 0
    warnings: tuple[RecordWarning, ...] = ()


def build_pipeline(experiment: Experiment, device: str, cache_folder: Path) -> BuiltPipeline:
    """Return the pipeline of ``experiment`` on ``device`` (``cpu``, ``cuda:0``), in its precision, in evaluation mode.

    Pretrained weights are read from ``cache_folder`` and downloaded into it when absent; synthetic ones that are kept
    there are mapped, and drawn when absent.

    Raises:
        UserError: the architecture or scheduler is unknown, or the weights are not pinned.
        EnvironmentProblem: the vocabulary of CLIP is not installed.
        WeightsUnavailable: pretrained weights are not available, or not those of the experiment.
    """
    disable_progress_bars()
    architecture, dtype = load_architecture(experiment.architecture), dtype_of(experiment.precision)
    if experiment.weights == "synthetic":
        key = WeightsKey(architecture, experiment.weights_seed, dtype, cache_folder)
        # Another memory format copies most weights: the mapped ones would take memory next to their copies.
        networks = load_synthetic(key, device, mapped=not experiment.channels_last)
    else:
        networks = load_pretrained(experiment, architecture, cache_folder, device, dtype)
    parameters = [tensor for network in networks.by_component.values() for tensor in network.parameters()]
    return BuiltPipeline(
        pipeline=_assemble(experiment, architecture, networks.by_component, cache_folder),
        weights_digest=networks.digest,
        parameter_count=sum(tensor.numel() for tensor in parameters),
        weights_source=networks.source,
        mapped_bytes=networks.mapped_bytes,
        warnings=networks.warnings,
    )


def fetch_networks(experiment: Experiment, cache_folder: Path, emit_stage: Callable[[Stage], None]) -> None:
    """Put weights that are not in ``cache_folder`` yet there: download pretrained ones, draw synthetic ones.

    Raises:
        UserError: the architecture is unknown, or the weights are not pinned.
        WeightsUnavailable: pretrained weights are not available.
    """
    if experiment.weights == "pretrained":
        fetch_weights(experiment, cache_folder)
        return
    architecture, dtype = load_architecture(experiment.architecture), dtype_of(experiment.precision)
    keep_weights(WeightsKey(architecture, experiment.weights_seed, dtype, cache_folder), lambda: emit_stage("draw"))


def build_pipeline_around(experiment: Experiment, make_network: Callable[[str, Any], Any], cache_folder: Path) -> Any:
    """Return the pipeline of ``experiment`` around networks that something else runs, without loading any weights.

    ``make_network`` gets the name of a component and the config that the stock network of that component would have.

    Raises:
        UserError: the architecture or scheduler is unknown, or the weights are not pinned.
        EnvironmentProblem: the vocabulary of CLIP is not installed.
        WeightsUnavailable: the tokenizer of pretrained weights is not available.
    """
    disable_progress_bars()
    architecture = load_architecture(experiment.architecture)
    networks = {name: make_network(name, build_on_meta(architecture, name).config) for name in COMPONENTS}
    return _assemble(experiment, architecture, networks, cache_folder)


def dtype_of(precision: Precision) -> "torch.dtype":
    """Return torch's type of a precision."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def build_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """Return the diffusers scheduler called ``name``, with the noise schedule of ``config``.

    Raises:
        UserError: there is none of that name.
    """
    if name not in SCHEDULERS:
        raise UserError(f"unknown scheduler {name!r}; choose one of: {', '.join(SCHEDULERS)}")
    module, _, class_name = SCHEDULERS[name].partition(":")
    # from_config, not the constructor: each scheduler takes the keys it knows and ignores the others.
    return getattr(import_module(module), class_name).from_config(dict(config))


def _assemble(experiment: Experiment, architecture: Architecture, networks: dict[str, Any], cache_folder: Path) -> Any:
    synthetic = experiment.weights == "synthetic"
    pipeline = library_classes()["pipeline"](
        **networks,
        tokenizer=build_tokenizer() if synthetic else fetch_tokenizer(experiment, cache_folder),
        scheduler=build_scheduler(experiment.scheduler, architecture.scheduler),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
