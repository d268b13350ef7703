"""``python -m tests.benchmarks.finite [NAME...]``: whether synthetic weights give finite values at full size.

Every shipped pipeline makes one small image in one step. A layer's weights are drawn right before it runs and dropped
after it, so that FLUX fits into any memory. fp16 is computed in fp32, with weights and the output of every layer
rounded to fp16, where too large a value becomes infinite: CPUs convolve in fp16 at 0.3 GFLOP/s.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sdbench.backends.call_inputs import make_inputs
from sdbench.models.networks import build_on_meta, fill_buffers
from sdbench.models.pipeline import assemble, dtype_of
from sdbench.models.pipeline_folders import load_shipped, shipped_pipelines
from sdbench.models.synthetic import fill_tensor
from sdbench.plan.families import native_options
from sdbench.schema.experiment import Experiment, Precision
from tests.benchmarks.bars import Bar, format_table

SIDE_PX = 128
TOKENS = 64
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16")


def main(names: list[str]) -> None:
    """Print the bar of each pipeline and precision."""
    for name in names or [name for name in shipped_pipelines() if not name.startswith("tiny-")]:
        for precision in PRECISIONS:
            print(format_table([measure(name, precision)]), flush=True)


def measure(name: str, precision: Precision) -> Bar:
    """Return whether one image at full size and in one step is finite, and the largest value that a layer gave."""
    config = load_shipped(name)
    options = native_options(config) | {"height": SIDE_PX, "width": SIDE_PX, "steps": 1}
    if options["max_sequence_length"] is not None:
        options["max_sequence_length"] = TOKENS
    is_rounded = precision == "fp16"
    experiment = Experiment(pipeline=name, precision="fp32" if is_rounded else precision, **options)
    dtype = dtype_of(experiment.precision)
    networks = {part: build_on_meta(item, dtype) for part, item in config.networks.items()}
    pipeline = assemble(experiment, config, networks, Path("/nonexistent"))
    images: list[torch.Tensor] = []
    pipeline.vae.decoder.register_forward_hook(lambda _module, _inputs, output: images.append(output))
    largest = dict.fromkeys(networks, 0.0)
    for part, network in networks.items():
        fill_buffers(network, "cpu")
        draw_on_use(part, network, largest, is_rounded=is_rounded)
    pipeline(**make_inputs(experiment, torch.device("cpu"), pipeline, config).arguments())
    finite = bool(images[0].isfinite().all() and images[0].std() > 0)
    values = ", ".join(f"{part} {value:.3g}" for part, value in largest.items())
    return Bar(f"{name} {precision}: finite at full size", f"{finite}; largest values: {values}", "True", finite)


def draw_on_use(part: str, network: Any, largest: dict[str, float], *, is_rounded: bool) -> None:
    """Let each layer of a network without values have them while it runs, and note the largest value it gives."""
    names = {tensor: f"{part}.{name}" for name, tensor in network.named_parameters()}
    # The pipeline asks the first for the device.
    first = next(network.parameters())

    def draw(module: Any, tensors: dict[str, torch.Tensor]) -> None:
        for attribute, tensor in tensors.items():
            values = torch.empty_like(tensor, device="cpu")
            fill_tensor(names[tensor], values, 0)
            values = values.half().float() if is_rounded else values
            setattr(module, attribute, torch.nn.Parameter(values, requires_grad=False))

    for module in list(network.modules()):
        own = dict(module.named_parameters(recurse=False))
        if any(tensor is first for tensor in own.values()):
            draw(module, own)
        elif own:
            module.register_forward_pre_hook(lambda module, _inputs, own=own: draw(module, own))
            module.register_forward_hook(partial(drop, own=own, part=part, largest=largest, is_rounded=is_rounded))


def drop(
    module: Any,
    _inputs: Any,
    output: Any,
    *,
    own: dict[str, torch.Tensor],
    part: str,
    largest: dict[str, float],
    is_rounded: bool,
) -> Any:
    """Take the values from a layer again, and return its output as fp16 would hold it."""
    for attribute, tensor in own.items():
        setattr(module, attribute, tensor)
    if not torch.is_tensor(output):
        return None
    largest[part] = max(largest[part], float(output.abs().max()))
    return output.half().float() if is_rounded else None


if __name__ == "__main__":
    main(sys.argv[1:])
