"""The stock diffusers pipeline an experiment asks for, ready to be called."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.models.architectures import COMPONENTS, Architecture, load_architecture
from sdbench.models.libraries import LibraryClasses, cast, disable_progress_bars, import_library_classes
from sdbench.models.pretrained import fetch_tokenizer, load_pretrained
from sdbench.models.schedulers import build_scheduler
from sdbench.models.synthetic import build_on_meta, build_synthetic
from sdbench.models.tokenizer import build_tokenizer
from sdbench.schema.experiment import Experiment, Precision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BuiltPipeline:
    """A pipeline, which weights it holds, and how many."""

    pipeline: Any
    weights_digest: str
    parameter_count: int


def build_pipeline(experiment: Experiment, device: str, cache_folder: Path) -> BuiltPipeline:
    """Return the pipeline of ``experiment`` on ``device`` (``cpu``, ``cuda:0``), in its precision, in evaluation mode.

    Pretrained weights are looked for in ``cache_folder`` and downloaded into it when absent.

    Raises:
        UserError: the experiment names an unknown architecture or scheduler, or its revision is no commit hash.
        EnvironmentProblem: the vocabulary of CLIP is not installed.
        WeightsUnavailable: pretrained weights cannot be had, or are not the ones asked for.
    """
    architecture = load_architecture(experiment.architecture)
    classes = import_library_classes()
    disable_progress_bars()
    networks, tokenizer, digest = _load_parts(experiment, architecture, classes, device, cache_folder)
    return BuiltPipeline(
        pipeline=_assemble(experiment, architecture, classes, networks, tokenizer),
        weights_digest=digest,
        parameter_count=sum(tensor.numel() for network in networks.values() for tensor in network.parameters()),
    )


def build_pipeline_around(experiment: Experiment, make_network: Callable[[str, Any], Any], cache_folder: Path) -> Any:
    """Return the pipeline of ``experiment`` around networks that something else runs, without loading any weights.

    ``make_network`` gets the name of a component and the config that the stock network of that component would have.

    Raises:
        UserError: the experiment names an unknown architecture or scheduler, or its revision is no commit hash.
        EnvironmentProblem: the vocabulary of CLIP is not installed.
        WeightsUnavailable: the tokenizer that belongs to pretrained weights cannot be had.
    """
    architecture = load_architecture(experiment.architecture)
    classes = import_library_classes()
    disable_progress_bars()
    networks = {
        component: make_network(component, build_on_meta(architecture, component, classes).config)
        for component in COMPONENTS
    }
    synthetic = experiment.weights == "synthetic"
    tokenizer = build_tokenizer() if synthetic else fetch_tokenizer(experiment, classes, cache_folder)
    return _assemble(experiment, architecture, classes, networks, tokenizer)


def dtype_of(precision: Precision) -> "torch.dtype":
    """Return torch's type of a precision."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _assemble(
    experiment: Experiment,
    architecture: Architecture,
    classes: LibraryClasses,
    networks: dict[str, Any],
    tokenizer: Any,
) -> Any:
    pipeline = classes.pipeline(
        **networks,
        tokenizer=tokenizer,
        scheduler=build_scheduler(experiment.scheduler, architecture.scheduler),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_parts(
    experiment: Experiment, architecture: Architecture, classes: LibraryClasses, device: str, cache_folder: Path
) -> tuple[dict[str, Any], Any, str]:
    """Return the networks by component, the tokenizer, and the digest of the weights."""
    dtype = dtype_of(experiment.precision)
    if experiment.weights == "synthetic":
        synthetic = build_synthetic(architecture, experiment.weights_seed, classes, device, dtype)
        return synthetic.networks, build_tokenizer(), synthetic.digest
    loaded = load_pretrained(experiment, architecture, classes, cache_folder)
    networks = {
        component: cast(loaded.networks[component], device=device, dtype=dtype)
        .eval()
        .requires_grad_(requires_grad=False)
        for component in COMPONENTS
    }
    return networks, loaded.tokenizer, loaded.digest
