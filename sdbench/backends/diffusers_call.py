"""The stock diffusers pipeline as something to call, time and watch, whatever runs its networks."""

import copy
import os
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sdbench.backends.base import (
    Backend,
    Clock,
    DeviceMemory,
    DeviceRoom,
    Observation,
    ReferenceSamples,
    WrongExecution,
)
from sdbench.backends.call_inputs import make_inputs
from sdbench.backends.observed_call import ObservedCall, check
from sdbench.backends.onednn import read_effective_isa
from sdbench.backends.reference_operation import time_reference_operation
from sdbench.errors import EnvironmentProblem
from sdbench.models.families import FAMILIES
from sdbench.models.pipeline import BuiltPipeline, decodes_in_fp32, dtype_of
from sdbench.models.work import count_work
from sdbench.probes.loaded_libraries import read_loaded_libraries
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment, Tf32, at_batch
from sdbench.schema.outcome import Check, RecordWarning, warn
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.worker_environment import WorkerEnvironment

if TYPE_CHECKING:
    import torch

_NO_CUDNN = "cuDNN is not used on the CPU"


class DiffusersCall(Backend, ABC):
    """A diffusers pipeline, the fixed initial noise, and the ways to run it."""

    _observer: type[ObservedCall] = ObservedCall

    def __init__(
        self, experiment: Experiment, device: "torch.device", built: BuiltPipeline, cache_folder: Path
    ) -> None:
        import torch

        self.experiment = experiment
        self.device = device
        self.pipeline = built.pipeline
        self._built = built
        self._cuda: Any = torch.cuda if device.type == "cuda" else None
        self.config = built.config
        self.work = count_work(experiment, self.config, self.pipeline.scheduler, cache_folder)
        self._inputs = make_inputs(experiment, device, self.pipeline, self.config)

    def generate(self) -> tuple[Any, ...]:
        """Return the PIL images of one pipeline call."""
        with self._around_call():
            return tuple(self.pipeline(**self.call_arguments()).images)

    def call_arguments(self) -> dict[str, Any]:
        """Return what a call of the pipeline is given."""
        return self._inputs.arguments()

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        """Return the first image (height, width, 3) float32, decoded as the pipeline decodes its last latents."""
        latents: list[Any] = []

        def keep(_pipeline: Any, _index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents.append(tensors["latents"][:1].clone())
            return {}

        arguments = self._inputs.arguments() | {
            "num_inference_steps": steps,
            "output_type": "latent",
            "callback_on_step_end": keep,
        }
        with self._around_call():
            final = self.pipeline(**arguments).images[:1]
            return tuple(self._decode(item) for item in (latents if every_call else [final]))

    def _decode(self, latents: Any) -> Any:
        import torch

        pipeline, vae, experiment = self.pipeline, self.pipeline.vae, self.experiment
        if self.config.packing > 1:
            latents = pipeline._unpack_latents(  # noqa: SLF001 - the stock pipeline's own, before it decodes
                latents, experiment.height, experiment.width, pipeline.vae_scale_factor
            )
        upcast = decodes_in_fp32(pipeline)
        # Under autocast a flow-match scheduler gives latents in its type, which most pipelines scale as they are.
        as_they_are = experiment.autocast != "off" and not FAMILIES[self.config.class_name].latents_in_fp32
        with torch.no_grad():
            if upcast:
                vae.to(torch.float32)
            if upcast or not as_they_are:
                latents = latents.to(vae.dtype)
            scaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
            decoded = vae.decode(scaled, return_dict=False)[0]
            if upcast:
                vae.to(torch.float16)
        # The stock post-processing without its rounding to bytes, which would turn NaN into 0; clamping would hide
        # infinities.
        image = decoded[0].float() / 2 + 0.5
        image = image.clamp(0, 1).where(image.isfinite(), torch.nan)
        return image.permute(1, 2, 0).cpu().numpy()

    def synchronize(self) -> None:
        """Wait until the device is idle; the CPU always is."""
        if self._cuda:
            self._cuda.synchronize(self.device)

    def observe(self, clock: Clock) -> Observation:
        """Run one call with hooks that time its phases and record what ran; raises as ``Backend.observe`` does."""
        call = self._observer(self.pipeline, self.config, self.device, clock)
        with call:
            self.synchronize()
            start_s = clock.now_s()
            images = self.generate()
            self.synchronize()
            total_s = clock.now_s() - start_s
        phases_s, steps_s = call.read_phases(total_s)
        checks = require_passed(self._verify(call, images))
        return Observation(images, phases_s, steps_s, call.finite, checks, call.read_host_bound_ratio())

    def time_reference_operation(self, clock: Clock) -> Reading[ReferenceSamples]:
        """Return samples (s) of torch's matrix product and convolution, whatever runs the networks."""
        experiment = self.experiment
        precision = experiment.precision if experiment.autocast == "off" else experiment.autocast
        return time_reference_operation(self.device, precision, dtype_of(precision), clock)

    def with_batch(self, batch: int, steps: int) -> Self:
        """Return the same loaded pipeline with the arguments of another batch size and number of steps."""
        other = copy.copy(self)
        other.experiment = Experiment.model_validate(dict(at_batch(self.experiment, batch)) | {"steps": steps})
        other._inputs = make_inputs(other.experiment, self.device, self.pipeline, self.config)  # noqa: SLF001 - a copy
        return other

    def read_device_room(self) -> DeviceRoom | None:
        """Return the free and total memory (bytes) of the GPU, or of its slice; None on the CPU."""
        return DeviceRoom(*map(int, self._cuda.mem_get_info(self.device))) if self._cuda else None

    def reset_peaks(self) -> None:
        """Forget torch's memory peaks."""
        if self._cuda:
            self._cuda.reset_peak_memory_stats(self.device)

    def read_peaks(self) -> DeviceMemory:
        """Return torch's memory peaks (bytes); torch counts none on the CPU."""
        if not self._cuda:
            none = Unknown(reason="torch keeps no allocation statistics on the CPU")
            return DeviceMemory(none, none)
        return DeviceMemory(
            Known(value=self._cuda.max_memory_allocated(self.device)),
            Known(value=self._cuda.max_memory_reserved(self.device)),
        )

    def describe(self) -> WorkerEnvironment:
        """Return the software and device that this process runs with."""
        import torch

        cudnn: Any = torch.backends.cudnn
        version, thread_count = self._version_and_threads()
        return WorkerEnvironment(
            backend=self.experiment.backend,
            backend_version=version,
            device=str(self.device),
            device_name=self._cuda.get_device_name(self.device) if self._cuda else "cpu",
            threads=thread_count,
            cuda_version=_reading(torch.version.cuda, "torch was built without CUDA"),
            cudnn_version=_reading(cudnn.version() if self._cuda else None, _NO_CUDNN),
            weights_digest=self._built.weights_digest,
            weights_source=self._built.weights_source,
            weights_mapped_bytes=self._built.mapped_bytes,
            parameter_count=self._built.parameter_count,
            work=self.work,
            drawn_tokens=self._built.drawn_tokens,
            cpu_capability=torch.backends.cpu.get_cpu_capability(),
            onednn_isa=Unknown(reason="the networks run on the GPU") if self._cuda else read_effective_isa(),
            cudnn_benchmark=Known(value=bool(cudnn.benchmark)) if self._cuda else Unknown(reason=_NO_CUDNN),
            cudnn_deterministic=Known(value=bool(cudnn.deterministic)) if self._cuda else Unknown(reason=_NO_CUDNN),
            deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
            loaded_libraries=read_loaded_libraries(),
        )

    def warnings(self) -> tuple[RecordWarning, ...]:
        """Return what the user should know of this configuration."""
        if self.experiment.weights == "pretrained":
            return ()
        message = "weights are synthetic: time and memory are the pipeline's, the images are noise"
        return (warn(WarningCode.SYNTHETIC_WEIGHTS, message), *self._built.warnings)

    def _around_call(self) -> AbstractContextManager[Any]:
        return nullcontext()

    @abstractmethod
    def _verify(self, call: Any, images: tuple[Any, ...]) -> tuple[Check, ...]:
        """Return one check per option that could have been ignored silently."""

    @abstractmethod
    def _version_and_threads(self) -> tuple[str, int]:
        """Return the version of what runs the networks, and the CPU threads of one of its operators."""


def require_passed(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return ``checks``.

    Raises:
        WrongExecution: some did not pass; the message names them all.
    """
    if failed := [check for check in checks if not check.passed]:
        problems = [f"{check.name}: expected {check.expected}, observed {check.observed}" for check in failed]
        raise WrongExecution("; ".join(problems))
    return checks


def check_device(device: str) -> None:
    """Do nothing when torch has ``device`` ("cpu", "cuda:0", ...).

    Raises:
        EnvironmentProblem: torch finds no CUDA device.
    """
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise EnvironmentProblem(
            f"torch {torch.__version__} finds no CUDA device for {device!r}; install the CUDA build and the driver"
        )


def check_tf32_override(tf32: Tf32) -> tuple[Check, ...]:
    """Return the check of the variable by which NVIDIA's libraries ignore what a program sets, where it is set."""
    override = os.environ.get("NVIDIA_TF32_OVERRIDE", "")
    expected = "unset" if tf32 == "convolutions" else int(tf32)
    return (check("NVIDIA_TF32_OVERRIDE", expected, [override]),) if override else ()


def _reading(value: object, reason: str) -> Reading[str]:
    return Unknown(reason=reason) if value is None else Known(value=str(value))
