"""diffusers and transformers, imported without their messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from sdbench.errors import EnvironmentProblem


@cache
def import_libraries() -> None:
    """Import what every pipeline is made of."""
    with messages_silenced(), cuda_left_alone():
        # The rest of both libraries is imported with it.
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

        del StableDiffusionPipeline


def class_of(library: str, name: str) -> Any:
    """Return a class of diffusers or transformers.

    Raises:
        EnvironmentProblem: the installed library has no class of that name.
    """
    import_libraries()
    try:
        return getattr(import_module(library), name)
    except (AttributeError, ImportError):
        raise EnvironmentProblem(f"{library} {version(library)} has no {name}; install a newer one") from None


@contextmanager
def cuda_left_alone() -> Iterator[None]:
    """Import diffusers without its question to torch whether there is a GPU, which it repeats when it needs to know.

    Asking initializes CUDA, and a process that is forked afterwards cannot use the GPU.
    """
    import torch

    is_available = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = is_available
        from diffusers.utils.torch_utils import TorchDeviceBackend

        TorchDeviceBackend._detect_device_type.cache_clear()  # noqa: SLF001 - it remembers the answer


@contextmanager
def messages_silenced() -> Iterator[None]:
    """Drop what transformers logs on import (it misses torchvision, which is not used); warnings come back after."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def disable_progress_bars() -> None:
    """Turn off the progress bars of loading: they would write into the worker's output."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    quieten_hub()


def quieten_hub() -> None:
    """Turn off huggingface_hub's progress bars, and the request of its own with which it describes its user."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars as disable_hub_bars

    # The library reads the variable HF_HUB_DISABLE_TELEMETRY on import, which may be long past.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        # Where the user's environment decides already, the library warns that it cannot be overruled.
        disable_hub_bars()
