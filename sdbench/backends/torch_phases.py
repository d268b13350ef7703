"""Phases of one pipeline call, timed by hooks: clock readings on the CPU, events read afterwards on CUDA."""

import itertools
from typing import Any, Self

from sdbench.backends.base import Clock

# A mark is a clock reading (s) on the CPU, or a recorded CUDA event.
Mark = Any


class PhaseTimer:
    """Marks the start and end of text encoding, of each UNet call and of the VAE decode while it is entered.

    A denoising step lasts from the start of its UNet call to the start of the next (or of the decode), so it
    holds the guidance and the scheduler step. What is left of the total is the phase ``rest``.
    """

    def __init__(self, pipeline: Any, device: Any, clock: Clock) -> None:
        self._pipeline = pipeline
        self._device = device
        self._clock = clock
        self._text: list[Mark] = []
        self._unet: list[Mark] = []
        self._decode: list[Mark] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        encode_prompt = self._pipeline.encode_prompt
        decode = self._pipeline.vae.decode

        def timed_encode_prompt(*args: Any, **kwargs: Any) -> Any:
            self._text.append(self._mark())
            result = encode_prompt(*args, **kwargs)
            self._text.append(self._mark())
            return result

        def timed_decode(*args: Any, **kwargs: Any) -> Any:
            self._decode.append(self._mark())
            result = decode(*args, **kwargs)
            self._decode.append(self._mark())
            return result

        self._pipeline.encode_prompt = timed_encode_prompt
        self._pipeline.vae.decode = timed_decode
        self._handles.append(self._pipeline.unet.register_forward_pre_hook(lambda *_: self._unet.append(self._mark())))
        return self

    def __exit__(self, *_: object) -> None:
        del self._pipeline.encode_prompt
        del self._pipeline.vae.decode
        for handle in self._handles:
            handle.remove()

    def read(self, total_s: float) -> tuple[dict[str, float], tuple[float, ...]]:
        """Return the phases (s) by name and the denoising steps (s); call it once the device is idle."""
        text_s = self._between(self._text[0], self._text[1])
        decode_s = self._between(self._decode[0], self._decode[1])
        starts = [*self._unet, self._decode[0]]
        steps_s = tuple(self._between(start, end) for start, end in itertools.pairwise(starts))
        rest_s = total_s - text_s - decode_s - sum(steps_s)
        return {"text_encode": text_s, "vae_decode": decode_s, "rest": rest_s, "total": total_s}, steps_s

    def _mark(self) -> Mark:
        if self._device.type != "cuda":
            return self._clock.now_s()
        import torch

        make_event: Any = torch.cuda.Event
        event = make_event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, start: Mark, end: Mark) -> float:
        if self._device.type != "cuda":
            return float(end - start)
        return float(start.elapsed_time(end)) / 1e3  # events count in milliseconds
