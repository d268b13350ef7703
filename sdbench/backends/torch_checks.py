"""What was asked against what ran: a silent fallback becomes a failed check, never a number."""

import os
from typing import Any

from sdbench.backends.call_checks import CallWitness, check, name_dtype, verify_call
from sdbench.backends.torch_attention import allowed_kernels, expected_kernel, expected_processor
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check

# NVIDIA Ampere tuning guide: TF32 tensor cores came with compute capability 8.0; older cards run IEEE fp32.
TF32_CAPABILITY = (8, 0)


class Witness(CallWitness):
    """While entered, also notes what the UNet's inner layers compute in and with which kernels they may attend."""

    def __init__(self, pipeline: Any, image_count: int) -> None:
        super().__init__(pipeline, image_count)
        self.kernels: set[str] = set()
        self.compute_dtypes: set[str] = set()
        self.gradients: set[str] = set()

    def hook(self) -> list[Any]:
        """Return the handles of the hooks that are in place until the call has ended."""
        unet = self.pipeline.unet
        return [
            *super().hook(),
            unet.register_forward_pre_hook(self._saw_gradients),
            unet.conv_in.register_forward_hook(self._saw_compute),
            unet.conv_in.register_forward_hook(lambda *_: self.kernels.add(allowed_kernels())),
            next(_linear_layers(unet)).register_forward_hook(self._saw_compute),
        ]

    def _saw_gradients(self, _module: Any, _inputs: Any) -> None:
        import torch

        self.gradients.add("on" if torch.is_grad_enabled() else "off")

    def _saw_compute(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.compute_dtypes.add(name_dtype(output.dtype))


def verify(
    experiment: Experiment, device: Any, pipeline: Any, witness: Witness, images: tuple[Any, ...], unet_calls: int
) -> tuple[Check, ...]:
    """Return one check per option that could have been ignored silently."""
    import torch

    modules = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    tensors = [tensor for module in modules for tensor in module.parameters()]
    weights = {name_dtype(tensor.dtype) for tensor in tensors}
    devices = {str(tensor.device) for tensor in tensors}
    computed_in = experiment.precision if experiment.autocast == "off" else experiment.autocast
    processors = {type(processor).__name__ for processor in pipeline.unet.attn_processors.values()}
    checks = [
        check("weights dtype", experiment.precision, weights),
        check("compute dtype", computed_in, witness.compute_dtypes),
        check("device", str(device), devices),
        check("attention processor", expected_processor(experiment.attention), processors),
        check("attention kernels allowed", expected_kernel(experiment.attention), witness.kernels),
        *verify_call(experiment, witness, images, unet_calls),
        check("gradients", "off", witness.gradients),
        check("evaluation mode", "on", {"off" if any(module.training for module in modules) else "on"}),
    ]
    checks += _vae_checks(experiment, pipeline.vae, witness)
    if experiment.channels_last:
        layouts = {
            "channels last" if network.conv_in.weight.is_contiguous(memory_format=torch.channels_last) else "contiguous"
            for network in (pipeline.unet, pipeline.vae.decoder)
        }
        checks.append(check("memory layout", "channels last", layouts))
    if experiment.threads is not None:
        checks.append(check("threads", str(experiment.threads), {str(torch.get_num_threads())}))
    if device.type == "cuda":
        asked = "tf32" if experiment.tf32 else "ieee"
        backends: Any = torch.backends
        if experiment.tf32 and torch.cuda.get_device_capability(device) < TF32_CAPABILITY:
            checks.append(check("TF32 hardware", "compute capability 8.0 or newer", {"older"}))
        override = os.environ.get("NVIDIA_TF32_OVERRIDE", "")
        if override:
            checks.append(check("NVIDIA_TF32_OVERRIDE", "1" if experiment.tf32 else "0", {override}))
        found = {backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision}
        checks.append(check("TF32", asked, found))
    return tuple(checks)


def _vae_checks(experiment: Experiment, vae: Any, witness: Witness) -> list[Check]:
    """Slicing decodes image by image; tiling starts beyond the tile's size, so below it nothing is cut."""
    checks = []
    if experiment.vae_tiling:
        tiled = max(experiment.width, experiment.height) > vae.tile_sample_min_size
        cut = "cut" if witness.decoder_call_count > experiment.batch else "whole"
        checks.append(check("VAE tiling", "cut" if tiled else "whole", {cut}))
    elif experiment.vae_slicing:
        checks.append(check("VAE slices", str(experiment.batch), {str(witness.decoder_call_count)}))
    return checks


def _linear_layers(module: Any) -> Any:
    import torch

    return (layer for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear) and "attn" in name)
