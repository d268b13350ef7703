"""One observed call of a pipeline: its phases, timed by hooks, and what can be verified whatever runs the networks."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from sdbench.backends.base import Clock
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check
from sdbench.schema.pipeline import PipelineConfig
from sdbench.schema.work import DENOISER_BATCH_CHECK

# A mark is a clock reading (s) on the CPU, or a recorded CUDA event.
Mark = Any


@dataclass
class ObservedCall:
    """While entered, marks the start and end of phases, and records what the denoiser and the decoder do.

    A denoising step lasts from the start of its denoiser call to the start of the next (or of the decode), so it
    includes the guidance and the scheduler step. What is left of the total is the phase ``rest``: tokenizing and
    post-processing, for example.
    """

    pipeline: Any
    config: PipelineConfig
    device: Any
    clock: Clock
    denoiser_batch_sizes: list[int] = field(default_factory=list)
    # One per slice or tile.
    decoder_calls: int = 0
    _finite: list[Any] = field(default_factory=list)
    _text: dict[str, list[Mark]] = field(default_factory=dict)
    _denoise: list[Mark] = field(default_factory=list)
    _decode: list[Mark] = field(default_factory=list)
    _handles: list[Any] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.pipeline.vae.decode = self._inspected(self._marked(self.pipeline.vae.decode, self._decode))
        self._handles = self.hook()
        return self

    def __exit__(self, *_: object) -> None:
        del self.pipeline.vae.decode
        for handle in self._handles:
            handle.remove()

    def hook(self) -> list[Any]:
        """Return the handles of the hooks that are in place until the call has ended."""
        handles = [
            self.denoiser.register_forward_pre_hook(self._enter_denoiser, with_kwargs=True),
            self.pipeline.vae.decoder.register_forward_pre_hook(self._enter_decoder),
        ]
        for name in self.config.text_encoders:
            encoder, marks = getattr(self.pipeline, name), self._text.setdefault(name, [])
            enter, leave = partial(self._record_mark, marks, name), partial(self._record_mark, marks, "rest")
            handles += [encoder.register_forward_pre_hook(enter), encoder.register_forward_hook(leave)]
        return handles

    @property
    def denoiser(self) -> Any:
        """The network that is called in each step."""
        return getattr(self.pipeline, self.config.denoiser_name)

    @property
    def finite(self) -> tuple[bool, ...]:
        """Whether each image's pixels were finite before they were rounded to bytes."""
        return tuple(is_finite for images in self._finite for is_finite in images.tolist())

    def read_phases(self, total_s: float) -> tuple[dict[str, float], tuple[float, ...]]:
        """Return the phases (s) by name and the denoising steps (s); call it once the device is idle."""
        # An encoder runs once for the prompt, and once more for the negative one.
        texts_s = {
            name: sum(self._between(start, end) for start, end in zip(marks[::2], marks[1::2], strict=True))
            for name, marks in self._text.items()
        }
        decode_s = self._between(*self._decode[:2])
        starts = [*self._denoise, self._decode[0]]
        steps_s = tuple(self._between(start, end) for start, end in itertools.pairwise(starts))
        rest_s = total_s - sum(texts_s.values()) - decode_s - sum(steps_s)
        return texts_s | {"vae_decode": decode_s, "rest": rest_s, "total": total_s}, steps_s

    def read_host_bound_ratio(self) -> Reading[float]:
        """Return the share of denoiser calls in which the GPU waited for the host, where that can be seen."""
        return Unknown(reason="the host waits for the GPU after each network")

    def verify(self, experiment: Experiment, images: tuple[Any, ...], denoiser_calls: int) -> tuple[Check, ...]:
        """Return the checks of how often the denoiser ran, with which batch, and of the images."""
        guided_batch = experiment.batch * self.config.guided_batch(experiment.guidance_scale)
        expected = f"{experiment.batch} of {experiment.width}x{experiment.height}"
        sizes = sorted({f"{image.width}x{image.height}" for image in images})
        return (
            check("denoiser calls", denoiser_calls, [len(self.denoiser_batch_sizes)]),
            check(DENOISER_BATCH_CHECK, guided_batch, self.denoiser_batch_sizes),
            check("images", expected, [f"{len(images)} of {' and '.join(sizes)}"]),
        )

    def _marked(self, function: Callable[..., Any], marks: list[Mark]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            marks.append(self._mark("vae_decode"))
            result = function(*args, **kwargs)
            marks.append(self._mark("rest"))
            return result

        return call

    def _inspected(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``decode`` followed by a look at its images, which is timed as the phase ``rest``.

        They are not kept for later: the call holds as much memory as one that nobody observes.
        """

        def call(*args: Any, **kwargs: Any) -> Any:
            result = decode(*args, **kwargs)
            self._finite.append(result[0].isfinite().flatten(1).all(1))
            return result

        return call

    def _enter_decoder(self, *_: Any) -> None:
        self.decoder_calls += 1

    def _enter_denoiser(self, _module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._denoise.append(self._mark("denoise_step"))
        # Z-Image gives a list of samples.
        self.denoiser_batch_sizes.append(len(inputs[0] if inputs else named["hidden_states"]))

    def _record_mark(self, marks: list[Mark], next_phase: str, *_: Any) -> None:
        marks.append(self._mark(next_phase))

    def _mark(self, next_phase: str) -> Mark:
        """Return the time at which the next phase begins."""
        del next_phase  # for those that mark it elsewhere too
        if self.device.type != "cuda":
            return self.clock.now_s()
        import torch

        make_event: Any = torch.cuda.Event
        event = make_event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between(self, start: Mark, end: Mark) -> float:
        if self.device.type != "cuda":
            return float(end - start)
        return float(start.elapsed_time(end)) / 1e3  # events count in milliseconds


def check(name: str, expected: object, observed: Iterable[object]) -> Check:
    """Return a check that passes when nothing but ``expected`` was observed."""
    values = {str(value) for value in observed}
    text = ", ".join(sorted(values)) or "nothing"
    return Check(name=name, expected=str(expected), observed=text, passed=values == {str(expected)})
