"""Workload ``precision``: how far a candidate's images are from an fp32 reference's, at the same prompt and noise.

Both ways of looking: one trajectory with the latents decoded after every denoiser call, and finished images of separate
runs of different lengths.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sdbench.backends.base import Backend
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.workload_results import Divergence, PrecisionResult
from sdbench.workloads.base import NO_ALLOCATOR_EVENTS, NO_REFERENCE_OPERATION, Session, WorkloadOutput
from sdbench.workloads.pictures import AMPLIFICATION, draw_difference, encode_animation, encode_webp, to_picture

# What makes the candidate: at their defaults they are the reference.
_CANDIDATE_OPTIONS = (
    "workload",
    "backend",
    "precision",
    "autocast",
    "tf32",
    "attention",
    "vae_slicing",
    "vae_tiling",
    "channels_last",
    "graph_optimization",
    "threads",
    "inter_op_threads",
    "sweep_min",
    "sweep_max",
    "sweep_every",
)
_METRICS = ("ssim", "psnr_db", "nrmse", "largest_difference")
_NOT_FINITE = Unknown(reason="some values are NaN or infinite")


@dataclass(frozen=True)
class _Images:
    """The images of one pipeline: of its trajectory, and of its separate runs; float RGB (height, width, 3)."""

    trajectory: tuple[Any, ...]
    sweep: tuple[Any, ...]


def run(session: Session) -> WorkloadOutput:
    """Return the comparison: the reference is run and closed before the candidate is loaded."""
    experiment = session.experiment
    reference_experiment = reference_of(experiment)
    reference = _make_reference(session, reference_experiment, experiment)
    backend = session.open_backend(experiment)
    session.emit_stage("verify")
    session.energy.start()
    started_s = session.clock.now_s()
    # A run of the candidate with everything verified: a fallback to fp32 would look like a perfect candidate.
    observation = backend.observe(session.clock)
    candidate = _make_images(session, backend, experiment)
    energy = session.energy.stop(0, session.clock.now_s() - started_s)
    memory = session.read_memory()
    session.emit_stage("compare")
    gallery = Gallery(session.image_path)
    workload_result = PrecisionResult(
        reference_id=reference_experiment.experiment_id,
        reference_label=reference_experiment.label,
        amplification=AMPLIFICATION,
        trajectory=tuple(
            compare(gallery, f"trajectory-{call:03}", *images, steps=experiment.steps, call=call)
            for call, images in enumerate(zip(reference.trajectory, candidate.trajectory, strict=True), start=1)
        ),
        sweep=tuple(
            compare(gallery, f"sweep-{steps:03}", *images, steps=steps, call=None)
            for steps, *images in zip(experiment.sweep_steps, reference.sweep, candidate.sweep, strict=True)
        ),
        trajectory_animation_path=gallery.keep(
            "trajectory", encode_animation, reference.trajectory, candidate.trajectory
        ),
        sweep_animation_path=gallery.keep("sweep", encode_animation, reference.sweep, candidate.sweep),
    )
    return WorkloadOutput(
        batch=experiment.batch,
        stop_reason="max_calls",
        first_call_s=observation.phases_s["total"],
        memory=memory,
        allocator=NO_ALLOCATOR_EVENTS,
        energy=energy,
        reference_operation=NO_REFERENCE_OPERATION,
        host_bound_ratio=observation.host_bound_ratio,
        checks=observation.checks,
        workload_result=workload_result,
        pictures=gallery.pictures,
    )


def reference_of(experiment: Experiment) -> Experiment:
    """Return the fp32 experiment on PyTorch that a candidate is compared with: the same images, plainly computed."""
    options = {name: value for name, value in dict(experiment).items() if name not in _CANDIDATE_OPTIONS}
    return Experiment.model_validate(options)


def _make_reference(session: Session, reference_experiment: Experiment, experiment: Experiment) -> _Images:
    backend = session.open_backend(reference_experiment)
    # A reference in TF32 would make candidates look better than they are.
    backend.check_fp32()
    return _make_images(session, backend, experiment)


def _make_images(session: Session, backend: Backend, experiment: Experiment) -> _Images:
    session.emit_stage("measure")
    trajectory = backend.decode_run(experiment.steps, every_call=True)
    sweep = tuple(backend.decode_run(steps, every_call=False)[0] for steps in experiment.sweep_steps)
    return _Images(trajectory, sweep)


class Gallery:
    """The pictures that are kept, as WebP by their path; ``image_path`` returns None for one that is not kept."""

    def __init__(self, image_path: Callable[[str], str | None]) -> None:
        self.pictures: dict[str, bytes] = {}
        self._image_path = image_path

    def keep(self, name: str, encode: Callable[..., bytes], *images: Any) -> str | None:
        """Keep what ``encode`` makes of images and return its path, None where none are kept."""
        if path := self._image_path(name):
            self.pictures[path] = encode(*images)
        return path


def compare(gallery: Gallery, name: str, reference: Any, candidate: Any, *, steps: int, call: int | None) -> Divergence:
    """Return how far ``candidate`` is from ``reference``, both (height, width, 3) float32 in 0 to 1.

    SSIM, PSNR and NRMSE (normalised by the reference's Euclidean norm) are scikit-image's, with a data range of 1.
    """
    import numpy as np

    bad, reference_bad = (int((~np.isfinite(image)).sum()) for image in (candidate, reference))
    identical = bool(np.array_equal(reference, candidate))
    metrics: dict[str, Reading[float]] = dict.fromkeys(_METRICS, _NOT_FINITE)
    if not bad and not reference_bad:
        metrics = _compute_metrics(reference, candidate, identical=identical)
    return Divergence(
        steps=steps,
        call=call,
        **metrics,
        non_finite_count=bad,
        reference_non_finite_count=reference_bad,
        identical=identical,
        reference_path=gallery.keep(f"{name}-reference", encode_webp, to_picture(reference)),
        candidate_path=gallery.keep(f"{name}-candidate", encode_webp, to_picture(candidate)),
        difference_path=gallery.keep(f"{name}-difference", encode_webp, draw_difference(reference, candidate)),
    )


def _compute_metrics(reference: Any, candidate: Any, *, identical: bool) -> dict[str, Reading[float]]:
    import numpy as np

    metrics: Any = import_module("skimage.metrics")
    exact, other = (image.astype(np.float64) for image in (reference, candidate))
    psnr: Reading[float] = Unknown(reason="the images are identical: the ratio to no noise is infinite")
    if not identical:
        psnr = Known(value=float(metrics.peak_signal_noise_ratio(exact, other, data_range=1.0)))
    nrmse: Reading[float] = Unknown(reason="the reference is black: there is nothing to normalise by")
    if exact.any():
        nrmse = Known(value=float(metrics.normalized_root_mse(exact, other)))
    ssim = float(metrics.structural_similarity(exact, other, data_range=1.0, channel_axis=2))
    largest = float(np.abs(exact - other).max())
    return dict(zip(_METRICS, (Known(value=ssim), psnr, nrmse, Known(value=largest)), strict=True))
