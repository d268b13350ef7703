"""Backend ``pytorch``: the stock diffusers pipeline, eager, on CPU or CUDA."""

import contextlib
import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.backends import torch_checks
from sdbench.backends.base import Clock, DeviceMemory, Observation, WrongExecution
from sdbench.backends.torch_phases import PhaseTimer
from sdbench.errors import EnvironmentProblem
from sdbench.models.libraries import import_library_classes
from sdbench.models.pipeline import build_pipeline, dtype_of
from sdbench.models.pretrained import fetch_weights
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Notice, WorkerEnvironment

if TYPE_CHECKING:
    import torch

PROJECTED_STEPS = 50


def open_backend(experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> "PytorchBackend":
    """Return the loaded pipeline of ``experiment`` on ``device`` ("cpu", "cuda:0", ...).

    Raises:
        EnvironmentProblem: torch has no such device, or weights cannot be had.
    """
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise EnvironmentProblem(
            f"torch {torch.__version__} sees no CUDA device for {device!r}; install the CUDA build and the driver"
        )
    torch.set_num_threads(thread_count)
    set_tf32(torch, enabled=experiment.tf32)
    built = build_pipeline(experiment, device, cache_folder)
    return PytorchBackend(experiment, torch.device(device), built.pipeline, built.weights_digest, built.parameter_count)


def import_libraries() -> None:
    """Import torch, diffusers and transformers, so that their import can be timed apart from loading."""
    import_library_classes()


def fetch(experiment: Experiment, cache_folder: Path) -> None:
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


class PytorchBackend:
    """A diffusers pipeline, the fixed initial noise, and the ways to run and watch it."""

    def __init__(
        self, experiment: Experiment, device: "torch.device", pipeline: Any, weights_digest: str, parameter_count: int
    ) -> None:
        self.experiment = experiment
        self.device = device
        self.pipeline = pipeline
        self.weights_digest = weights_digest
        self.parameter_count = parameter_count
        self.unet_calls = _count_unet_calls(pipeline.scheduler, experiment.steps)
        self._arguments = {
            "prompt": [experiment.prompt] * experiment.batch,
            "negative_prompt": [experiment.negative_prompt] * experiment.batch,
            "num_inference_steps": experiment.steps,
            "guidance_scale": experiment.guidance_scale,
            "height": experiment.height,
            "width": experiment.width,
            "latents": draw_noise(experiment, pipeline.unet.config.in_channels).to(device, pipeline.unet.dtype),
        }

    def generate(self) -> tuple[Any, ...]:
        """Return the PIL images of one pipeline call."""
        with self._autocast():
            return tuple(self.pipeline(**self._arguments).images)

    def synchronize(self) -> None:
        """Wait until the device is idle; the CPU always is."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def observe(self, clock: Clock) -> Observation:
        """Run one call with hooks that time its phases and note what really ran.

        Raises:
            WrongExecution: something else ran than what the experiment asks for.
        """
        witness = torch_checks.Witness(self.pipeline)
        timer = PhaseTimer(self.pipeline, self.device, clock)
        with timer, witness:
            self.synchronize()
            start_s = clock.now_s()
            images = self.generate()
            self.synchronize()
            total_s = clock.now_s() - start_s
        phases_s, steps_s = timer.read(total_s)
        checks = torch_checks.verify(self.experiment, self.device, self.pipeline, witness, images, self.unet_calls)
        failed = [check for check in checks if not check.passed]
        if failed:
            raise WrongExecution(
                "; ".join(f"{check.name}: asked {check.asked}, found {check.found}" for check in failed)
            )
        return Observation(
            images=images, phases_s=phases_s, denoise_steps_s=steps_s, finite=witness.finite, checks=checks
        )

    def reset_peaks(self) -> None:
        """Forget torch's memory peaks."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)

    def read_peaks(self) -> DeviceMemory:
        """Return torch's memory peaks (bytes); torch counts none on the CPU."""
        if self.device.type != "cuda":
            none = Unknown(reason="torch keeps no allocation statistics on the CPU")
            return DeviceMemory(none, none)
        import torch

        return DeviceMemory(
            Known[int](value=torch.cuda.max_memory_allocated(self.device)),
            Known[int](value=torch.cuda.max_memory_reserved(self.device)),
        )

    def describe(self) -> WorkerEnvironment:
        """Return what this process sees of software and device."""
        import torch

        on_cuda = self.device.type == "cuda"
        cudnn: Any = torch.backends.cudnn
        return WorkerEnvironment(
            backend="pytorch",
            backend_version=str(torch.__version__),
            device=str(self.device),
            device_name=torch.cuda.get_device_name(self.device) if on_cuda else "cpu",
            threads=torch.get_num_threads(),
            cuda_version=_reading(torch.version.cuda, "torch was built without CUDA"),
            cudnn_version=_reading(cudnn.version() if on_cuda else None, "cuDNN is not used on the CPU"),
            weights_digest=self.weights_digest,
            parameter_count=self.parameter_count,
            unet_calls=self.unet_calls,
            unet_calls_at_50_steps=_count_unet_calls(self.pipeline.scheduler, PROJECTED_STEPS),
            cpu_capability=torch.backends.cpu.get_cpu_capability(),
        )

    def notices(self) -> tuple[Notice, ...]:
        """Return what the user should know of this set-up."""
        if self.experiment.weights == "pretrained":
            return ()
        return (
            Notice(
                code="synthetic-weights",
                message="weights are synthetic: time and memory are the architecture's, the images are no pictures",
                remedy="use --weights pretrained for pictures",
            ),
        )

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.experiment.autocast == "off":
            return contextlib.nullcontext()
        import torch

        return torch.autocast(self.device.type, dtype=dtype_of(self.experiment.autocast))


def draw_noise(experiment: Experiment, channel_count: int) -> "torch.Tensor":
    """Return the initial noise, (batch, channels, height/8, width/8) float32, drawn on the CPU.

    Image i of a batch starts from ``seed + i``, so it is the same image in every batch, precision and machine.
    """
    import torch

    shape = (1, channel_count, experiment.height // 8, experiment.width // 8)
    return torch.cat(
        [
            torch.randn(
                shape, generator=torch.Generator("cpu").manual_seed(experiment.seed + index), dtype=torch.float32
            )
            for index in range(experiment.batch)
        ]
    )


def _count_unet_calls(scheduler: Any, steps: int) -> int:
    counted = copy.deepcopy(scheduler)
    counted.set_timesteps(steps)
    return len(counted.timesteps)


def _reading(value: object, reason: str) -> Reading[str]:
    return Unknown(reason=reason) if value is None else Known[str](value=str(value))
