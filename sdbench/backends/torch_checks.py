"""What was asked against what ran: a silent fallback becomes a failed check, never a number."""

import os
from typing import Any, Self

from sdbench.backends.torch_attention import allowed_kernels, expected_kernel, expected_processor
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check

# NVIDIA Ampere tuning guide: TF32 tensor cores came with compute capability 8.0; older cards run IEEE fp32.
TF32_CAPABILITY = (8, 0)


class Witness:
    """While entered, notes what the UNet's inner layers compute in, how often it runs, and what the decoder gives."""

    def __init__(self, pipeline: Any, image_count: int) -> None:
        self._pipeline = pipeline
        self._image_count = image_count
        self.kernels: set[str] = set()
        self._handles: list[Any] = []
        self.unet_call_count = 0
        self.unet_batch_sizes: set[int] = set()
        self.compute_dtypes: set[str] = set()
        self.gradients: set[str] = set()
        self._decoded: list[Any] = []

    def __enter__(self) -> Self:
        unet = self._pipeline.unet
        self._handles = [
            unet.register_forward_pre_hook(self._saw_unet),
            unet.conv_in.register_forward_hook(self._saw_compute),
            unet.conv_in.register_forward_hook(lambda *_: self.kernels.add(allowed_kernels())),
            next(_linear_layers(unet)).register_forward_hook(self._saw_compute),
            self._pipeline.vae.decoder.register_forward_hook(self._saw_decoder),
        ]
        return self

    @property
    def finite(self) -> tuple[bool, ...]:
        """Whether each image's pixels were finite before they were rounded to bytes.

        A tiled decode makes more pieces than images: then one piece speaks for all.
        """
        pieces = tuple(bool(image.isfinite().all()) for images in self._decoded for image in images)
        return pieces if len(pieces) == self._image_count else (all(pieces),) * self._image_count

    @property
    def decoder_call_count(self) -> int:
        """How often the decoder ran: once per slice or tile."""
        return len(self._decoded)

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _saw_unet(self, _module: Any, inputs: tuple[Any, ...]) -> None:
        import torch

        self.unet_call_count += 1
        self.gradients.add("on" if torch.is_grad_enabled() else "off")
        self.unet_batch_sizes.add(int(inputs[0].shape[0]))

    def _saw_compute(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.compute_dtypes.add(_name(output.dtype))

    def _saw_decoder(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._decoded.append(output)  # looked at when the call has ended, so as not to be timed as decoding


def verify(
    experiment: Experiment, device: Any, pipeline: Any, witness: Witness, images: tuple[Any, ...], unet_calls: int
) -> tuple[Check, ...]:
    """Return one check per option that could have been ignored silently."""
    import torch

    modules = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    tensors = [tensor for module in modules for tensor in module.parameters()]
    weights = {_name(tensor.dtype) for tensor in tensors}
    devices = {str(tensor.device) for tensor in tensors}
    computed_in = experiment.precision if experiment.autocast == "off" else experiment.autocast
    guided_batch = experiment.batch * (2 if experiment.guidance_scale > 1 else 1)
    processors = {type(processor).__name__ for processor in pipeline.unet.attn_processors.values()}
    checks = [
        _check("weights dtype", experiment.precision, weights),
        _check("compute dtype", computed_in, witness.compute_dtypes),
        _check("device", str(device), devices),
        _check("attention processor", expected_processor(experiment.attention), processors),
        _check("attention kernels allowed", expected_kernel(experiment.attention), witness.kernels),
        _check("scheduler calls of the UNet", str(unet_calls), {str(witness.unet_call_count)}),
        _check("UNet batch with guidance", str(guided_batch), {str(size) for size in witness.unet_batch_sizes}),
        _check("images", f"{experiment.batch} of {experiment.width}x{experiment.height}", {_images(images)}),
        _check("gradients", "off", witness.gradients),
        _check("evaluation mode", "on", {"off" if any(module.training for module in modules) else "on"}),
    ]
    checks += _vae_checks(experiment, pipeline.vae, witness)
    if experiment.channels_last:
        layouts = {
            "channels last" if network.conv_in.weight.is_contiguous(memory_format=torch.channels_last) else "contiguous"
            for network in (pipeline.unet, pipeline.vae.decoder)
        }
        checks.append(_check("memory layout", "channels last", layouts))
    if experiment.threads is not None:
        checks.append(_check("threads", str(experiment.threads), {str(torch.get_num_threads())}))
    if device.type == "cuda":
        asked = "tf32" if experiment.tf32 else "ieee"
        backends: Any = torch.backends
        if experiment.tf32 and torch.cuda.get_device_capability(device) < TF32_CAPABILITY:
            checks.append(_check("TF32 hardware", "compute capability 8.0 or newer", {"older"}))
        override = os.environ.get("NVIDIA_TF32_OVERRIDE", "")
        if override:
            checks.append(_check("NVIDIA_TF32_OVERRIDE", "1" if experiment.tf32 else "0", {override}))
        found = {backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision}
        checks.append(_check("TF32", asked, found))
    return tuple(checks)


def _vae_checks(experiment: Experiment, vae: Any, witness: Witness) -> list[Check]:
    """Slicing decodes image by image; tiling starts beyond the tile's size, so below it nothing is cut."""
    checks = []
    if experiment.vae_tiling:
        tiled = max(experiment.width, experiment.height) > vae.tile_sample_min_size
        cut = "cut" if witness.decoder_call_count > experiment.batch else "whole"
        checks.append(_check("VAE tiling", "cut" if tiled else "whole", {cut}))
    elif experiment.vae_slicing:
        checks.append(_check("VAE slices", str(experiment.batch), {str(witness.decoder_call_count)}))
    return checks


def _check(name: str, asked: str, found: set[str]) -> Check:
    return Check(name=name, asked=asked, found=", ".join(sorted(found)) or "nothing", passed=found == {asked})


def _images(images: tuple[Any, ...]) -> str:
    sizes = sorted({f"{image.width}x{image.height}" for image in images})
    return f"{len(images)} of {' and '.join(sizes)}"


def _linear_layers(module: Any) -> Any:
    import torch

    return (layer for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear) and "attn" in name)


def _name(dtype: Any) -> str:
    return {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}.get(str(dtype), str(dtype))
