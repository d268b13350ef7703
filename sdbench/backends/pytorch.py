"""Backend ``pytorch``: the stock diffusers pipeline, eager, on CPU or CUDA."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sdbench.backends import torch_checks
from sdbench.backends.diffusers_call import DiffusersCall, check_device
from sdbench.backends.torch_attention import choose_attention
from sdbench.models.libraries import import_library_classes
from sdbench.models.pipeline import build_pipeline, dtype_of
from sdbench.models.pretrained import fetch_weights
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check, Stage


def open_backend(experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> "PytorchBackend":
    """Return the loaded pipeline of ``experiment`` on ``device`` ("cpu", "cuda:0", ...).

    Raises:
        EnvironmentProblem: torch has no such device, xformers is not installed, or weights cannot be had.
    """
    import torch

    check_device(device)
    torch.set_num_threads(thread_count)
    if experiment.inter_op_threads is not None:
        torch.set_num_interop_threads(experiment.inter_op_threads)
    set_tf32(torch, enabled=experiment.tf32)
    built = build_pipeline(experiment, device, cache_folder)
    set_options(experiment, built.pipeline)
    return PytorchBackend(experiment, torch.device(device), built.pipeline, built.weights_digest, built.parameter_count)


def import_libraries() -> None:
    """Import torch, diffusers and transformers, so that their import can be timed apart from loading."""
    import_library_classes()


def fetch(experiment: Experiment, cache_folder: Path, say_stage: Callable[[Stage], None]) -> None:  # noqa: ARG001 - a download is the stage "fetch" itself
    """Download what is not in ``cache_folder`` yet, so that loading is timed without the network.

    Raises:
        WeightsUnavailable: pretrained weights cannot be had.
    """
    if experiment.weights == "pretrained":
        fetch_weights(experiment, cache_folder)


def set_tf32(torch: Any, *, enabled: bool) -> None:
    """Switch TF32 on or off for matrix products and for convolutions, which have opposite defaults in torch."""
    precision = "tf32" if enabled else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision


def set_options(experiment: Experiment, pipeline: Any) -> None:
    """Set attention, VAE slicing and tiling, and the memory layout.

    Raises:
        EnvironmentProblem: xformers is asked for and not installed.
    """
    import torch

    choose_attention(experiment.attention, pipeline.unet)
    if experiment.vae_slicing:
        pipeline.vae.enable_slicing()
    if experiment.vae_tiling:
        pipeline.vae.enable_tiling()
    if experiment.channels_last:
        for network in (pipeline.unet, pipeline.vae):
            network.to(memory_format=torch.channels_last)


class PytorchBackend(DiffusersCall):
    """The pipeline with torch's own networks."""

    def _around_call(self) -> AbstractContextManager[Any]:
        if self.experiment.autocast == "off":
            return nullcontext()
        import torch

        return torch.autocast(self.device.type, dtype=dtype_of(self.experiment.autocast))

    def _open_witness(self) -> torch_checks.Witness:
        return torch_checks.Witness(self.pipeline, self.experiment.batch)

    def _verify(self, witness: torch_checks.Witness, images: tuple[Any, ...]) -> tuple[Check, ...]:
        return torch_checks.verify(self.experiment, self.device, self.pipeline, witness, images, self.unet_calls)

    def _backend_version(self) -> str:
        import torch

        return str(torch.__version__)

    def _thread_count(self) -> int:
        import torch

        return torch.get_num_threads()
