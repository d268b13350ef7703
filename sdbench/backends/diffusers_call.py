"""The stock diffusers pipeline as something to call, time and watch, whatever runs its networks."""

import copy
import gc
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from sdbench.backends.base import Clock, DeviceMemory, Observation, WrongExecution
from sdbench.backends.torch_phases import PhaseTimer
from sdbench.errors import EnvironmentProblem
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment, at_batch
from sdbench.schema.outcome import Check, Notice, WorkerEnvironment
from sdbench.schema.study import Export

if TYPE_CHECKING:
    import torch

PROJECTED_STEPS = 50
# The VAE's decoder makes 8 x 8 pixels of a latent: a property of SD v1's f8 autoencoder, which both architectures have.
PIXELS_PER_LATENT = 8


class DiffusersCall(ABC):
    """A diffusers pipeline, the fixed initial noise, and the ways to run it."""

    def __init__(
        self, experiment: Experiment, device: "torch.device", pipeline: Any, weights_digest: str, parameter_count: int
    ) -> None:
        self.experiment = experiment
        self.device = device
        self.pipeline = pipeline
        self.weights_digest = weights_digest
        self.parameter_count = parameter_count
        self.unet_calls = count_unet_calls(pipeline.scheduler, experiment.steps)
        self.arguments = make_arguments(experiment, device, pipeline)

    def generate(self) -> tuple[Any, ...]:
        """Return the PIL images of one pipeline call."""
        with self._around_call():
            return tuple(self.pipeline(**self.arguments).images)

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        """Return the first image as float RGB (height, width, 3) float32 in 0 to 1, after each UNet call or at the end.

        The pictures of unfinished latents are decoded as the pipeline decodes its last ones; NaN stays NaN.
        """
        latents: list[Any] = []

        def keep(_pipeline: Any, _index: int, _timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
            latents.append(given["latents"][:1].clone())
            return {}

        arguments = self.arguments | {
            "num_inference_steps": steps,
            "output_type": "latent",
            "callback_on_step_end": keep,
        }
        with self._around_call():
            final = self.pipeline(**arguments).images[:1]
            return tuple(self._decode(item) for item in (latents if every_call else [final]))

    def _decode(self, latents: Any) -> Any:
        import torch

        vae = self.pipeline.vae
        with torch.no_grad():
            decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        # The stock post-processing without its rounding to bytes, which would turn NaN into 0; clamping would hide
        # infinities.
        image = decoded[0].float() / 2 + 0.5
        image = image.clamp(0, 1).where(image.isfinite(), torch.nan)
        return image.permute(1, 2, 0).cpu().numpy()

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
        witness = self._open_witness()
        timer = PhaseTimer(self.pipeline, self.device, clock)
        with timer, witness:
            self.synchronize()
            start_s = clock.now_s()
            images = self.generate()
            self.synchronize()
            total_s = clock.now_s() - start_s
        phases_s, steps_s = timer.read(total_s)
        checks = self._verify(witness, images)
        failed = [check for check in checks if not check.passed]
        if failed:
            raise WrongExecution(
                "; ".join(f"{check.name}: asked {check.asked}, found {check.found}" for check in failed)
            )
        return Observation(
            images=images, phases_s=phases_s, denoise_steps_s=steps_s, finite=witness.finite, checks=checks
        )

    def with_batch(self, batch: int, steps: int) -> Self:
        """Return the same loaded pipeline with the arguments of another batch size and number of steps."""
        other = copy.copy(self)
        other.experiment = Experiment.model_validate(dict(at_batch(self.experiment, batch)) | {"steps": steps})
        other.arguments = make_arguments(other.experiment, self.device, self.pipeline)
        return other

    def recover(self) -> None:
        """Free what a failed call left behind, torch's cached blocks too."""
        gc.collect()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def device_memory_limit_bytes(self) -> int | None:
        """Return what torch has reserved plus what is free on the GPU (bytes); None on the CPU."""
        if self.device.type != "cuda":
            return None
        import torch

        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        return int(free_bytes) + torch.cuda.memory_reserved(self.device)

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
            backend=self.experiment.backend,
            backend_version=self._backend_version(),
            device=str(self.device),
            device_name=torch.cuda.get_device_name(self.device) if on_cuda else "cpu",
            threads=self._thread_count(),
            cuda_version=_reading(torch.version.cuda, "torch was built without CUDA"),
            cudnn_version=_reading(cudnn.version() if on_cuda else None, "cuDNN is not used on the CPU"),
            weights_digest=self.weights_digest,
            parameter_count=self.parameter_count,
            unet_calls=self.unet_calls,
            unet_calls_at_50_steps=count_unet_calls(self.pipeline.scheduler, PROJECTED_STEPS),
            cpu_capability=torch.backends.cpu.get_cpu_capability(),
        )

    def exports(self) -> tuple[Export, ...]:
        """Return the files the networks were exported to."""
        return ()

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

    def _around_call(self) -> AbstractContextManager[Any]:
        """Return what a call runs in, autocast for example."""
        return nullcontext()

    @abstractmethod
    def _open_witness(self) -> Any:
        """Return a context manager that notes what runs in one call; ``finite`` tells of each image."""

    @abstractmethod
    def _verify(self, witness: Any, images: tuple[Any, ...]) -> tuple[Check, ...]:
        """Return one check per option that could have been ignored silently."""

    @abstractmethod
    def _backend_version(self) -> str: ...

    @abstractmethod
    def _thread_count(self) -> int: ...


def check_device(device: str) -> None:
    """Do nothing when torch has ``device`` ("cpu", "cuda:0", ...).

    Raises:
        EnvironmentProblem: torch sees no CUDA device.
    """
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise EnvironmentProblem(
            f"torch {torch.__version__} sees no CUDA device for {device!r}; install the CUDA build and the driver"
        )


def make_arguments(experiment: Experiment, device: "torch.device", pipeline: Any) -> dict[str, Any]:
    """Return the arguments of a pipeline call, with the initial noise on the device."""
    noise = draw_noise(experiment, pipeline.unet.config.in_channels)
    return {
        "prompt": [experiment.prompt] * experiment.batch,
        "negative_prompt": [experiment.negative_prompt] * experiment.batch,
        "num_inference_steps": experiment.steps,
        "guidance_scale": experiment.guidance_scale,
        "height": experiment.height,
        "width": experiment.width,
        "latents": noise.to(device, pipeline.unet.dtype),
    }


def draw_noise(experiment: Experiment, channel_count: int) -> "torch.Tensor":
    """Return the initial noise, (batch, channels, height/8, width/8) float32, drawn on the CPU.

    Image i of a batch starts from ``seed + i``, so it is the same image in every batch, precision and machine.
    """
    import torch

    shape = (1, channel_count, experiment.height // PIXELS_PER_LATENT, experiment.width // PIXELS_PER_LATENT)
    return torch.cat(
        [
            torch.randn(
                shape, generator=torch.Generator("cpu").manual_seed(experiment.seed + index), dtype=torch.float32
            )
            for index in range(experiment.batch)
        ]
    )


def count_unet_calls(scheduler: Any, steps: int) -> int:
    """Return how often a scheduler calls the UNet for ``steps`` steps: PNDM once more."""
    counted = copy.deepcopy(scheduler)
    counted.set_timesteps(steps)
    return len(counted.timesteps)


def _reading(value: object, reason: str) -> Reading[str]:
    return Unknown(reason=reason) if value is None else Known[str](value=str(value))
