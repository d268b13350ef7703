"""What can be verified of a pipeline call whatever runs its networks."""

from typing import Any, Self

from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check


class CallWitness:
    """While entered, notes how often and with which batch the UNet runs, and what the decoder gives."""

    def __init__(self, pipeline: Any, image_count: int) -> None:
        self.pipeline = pipeline
        self.unet_call_count = 0
        self.unet_batch_sizes: set[int] = set()
        self._image_count = image_count
        self._handles: list[Any] = []
        self._decoded: list[Any] = []

    def __enter__(self) -> Self:
        self._handles = self.hook()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def hook(self) -> list[Any]:
        """Return the handles of the hooks that are in place until the call has ended."""
        return [
            self.pipeline.unet.register_forward_pre_hook(self._saw_unet),
            self.pipeline.vae.decoder.register_forward_hook(self._saw_decoder),
        ]

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

    def _saw_unet(self, _module: Any, inputs: tuple[Any, ...]) -> None:
        self.unet_call_count += 1
        self.unet_batch_sizes.add(int(inputs[0].shape[0]))

    def _saw_decoder(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._decoded.append(output)  # looked at when the call has ended, so as not to be timed as decoding


def check(name: str, asked: str, found: set[str]) -> Check:
    """Return a check that passes when nothing but ``asked`` was found."""
    return Check(name=name, asked=asked, found=", ".join(sorted(found)) or "nothing", passed=found == {asked})


def verify_call(
    experiment: Experiment, witness: CallWitness, images: tuple[Any, ...], unet_calls: int
) -> tuple[Check, ...]:
    """Return the checks of how often the UNet ran, with which batch, and of the images."""
    guided_batch = experiment.batch * (2 if experiment.guidance_scale > 1 else 1)
    return (
        check("scheduler calls of the UNet", str(unet_calls), {str(witness.unet_call_count)}),
        check("UNet batch with guidance", str(guided_batch), {str(size) for size in witness.unet_batch_sizes}),
        check("images", f"{experiment.batch} of {experiment.width}x{experiment.height}", {_describe(images)}),
    )


def name_dtype(dtype: Any) -> str:
    """Return what manifests call one of torch's types: ``fp32``, ``fp16``, ``bf16``."""
    return {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}.get(str(dtype), str(dtype))


def _describe(images: tuple[Any, ...]) -> str:
    sizes = sorted({f"{image.width}x{image.height}" for image in images})
    return f"{len(images)} of {' and '.join(sizes)}"
