"""Workload ``precision``: how far a candidate's images are from an fp32 reference's, at the same prompt and noise.

Both ways of looking: one trajectory with the latents decoded after every UNet call, and finished images of separate
runs of different lengths.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.study import Divergence, PrecisionStudy
from sdbench.workloads.base import Findings, Session
from sdbench.workloads.pictures import AMPLIFICATION, draw_difference, encode_animation, encode_view, to_picture

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
_NOT_FINITE = Unknown(reason="some values are NaN or infinite")


@dataclass(frozen=True)
class _Images:
    """The images of one pipeline: of its trajectory, and of its separate runs; float RGB (height, width, 3)."""

    trajectory: tuple[Any, ...]
    sweep: tuple[Any, ...]


def run(session: Session) -> Findings:
    """Return the study: the reference is run and let go before the candidate is loaded."""
    experiment = session.experiment
    reference_experiment = reference_of(experiment)
    reference = _make_images(session, reference_experiment)
    backend = session.open_backend(experiment)
    session.say_stage("verify")
    started_s = session.clock.now_s()
    session.start_energy()
    # A run of the candidate with everything verified: a fallback to fp32 would look like a perfect candidate.
    observation = backend.observe(session.clock)
    candidate = _images_of(session, backend, experiment)
    energy = session.stop_energy(0, session.clock.now_s() - started_s)
    memory = session.read_memory()
    session.say_stage("compare")
    pictures: dict[str, bytes] = {}
    study = PrecisionStudy(
        reference_id=reference_experiment.experiment_id,
        reference_label=reference_experiment.label,
        amplification=AMPLIFICATION,
        trajectory=tuple(
            compare(_Pair(session.image_path, pictures, f"trajectory-{call:03}", experiment.steps, call), *images)
            for call, images in enumerate(zip(reference.trajectory, candidate.trajectory, strict=True), start=1)
        ),
        sweep=tuple(
            compare(_Pair(session.image_path, pictures, f"sweep-{steps:03}", steps, None), *images)
            for steps, *images in zip(experiment.sweep_steps, reference.sweep, candidate.sweep, strict=True)
        ),
        trajectory_animation_path=_animate(session, pictures, "trajectory", reference.trajectory, candidate.trajectory),
        sweep_animation_path=_animate(session, pictures, "sweep", reference.sweep, candidate.sweep),
    )
    return Findings(
        batch=experiment.batch,
        series=(),
        stop_reason="most allowed",
        first_call_s=observation.phases_s["total"],
        memory=memory,
        energy=energy,
        checks=observation.checks,
        images=(),
        notices=backend.notices(),
        environment=backend.describe(),
        exports=backend.exports(),
        study=study,
        pictures=pictures,
    )


def reference_of(experiment: Experiment) -> Experiment:
    """Return the fp32 experiment on PyTorch that a candidate is compared with: the same images, plainly computed."""
    options = {name: value for name, value in dict(experiment).items() if name not in _CANDIDATE_OPTIONS}
    return Experiment.model_validate(options)


def _make_images(session: Session, experiment: Experiment) -> _Images:
    return _images_of(session, session.open_backend(experiment), session.experiment)


def _images_of(session: Session, backend: Any, asked: Experiment) -> _Images:
    session.say_stage("measure")
    trajectory = backend.decode_run(asked.steps, every_call=True)
    sweep = tuple(backend.decode_run(steps, every_call=False)[0] for steps in asked.sweep_steps)
    return _Images(trajectory, sweep)


@dataclass(frozen=True)
class _Pair:
    """Where the pictures of one comparison go, and which point of the study it is."""

    image_path: Callable[[str], str | None]
    pictures: dict[str, bytes]
    name: str
    steps: int
    call: int | None

    def keep(self, kind: str, picture: Any) -> str | None:
        """Keep a picture and return its path, None where none are kept."""
        path = self.image_path(f"{self.name}-{kind}")
        if path is not None:
            self.pictures[path] = encode_view(picture)
        return path


def compare(pair: _Pair, reference: Any, candidate: Any) -> Divergence:
    """Return how far ``candidate`` is from ``reference``, both (height, width, 3) float32 in 0 to 1.

    SSIM, PSNR and NRMSE (normalised by the reference's Euclidean norm) are scikit-image's, with a data range of 1.
    """
    import numpy as np

    bad, reference_bad = (int((~np.isfinite(image)).sum()) for image in (candidate, reference))
    identical = bool(np.array_equal(reference, candidate))
    ssim: Reading[float] = _NOT_FINITE
    psnr: Reading[float] = _NOT_FINITE
    nrmse: Reading[float] = _NOT_FINITE
    largest: Reading[float] = _NOT_FINITE
    if not bad and not reference_bad:
        ssim, psnr, nrmse, largest = _metrics(reference, candidate, identical=identical)
    return Divergence(
        steps=pair.steps,
        call=pair.call,
        ssim=ssim,
        psnr_db=psnr,
        nrmse=nrmse,
        largest_difference=largest,
        non_finite_count=bad,
        reference_non_finite_count=reference_bad,
        identical=identical,
        reference_path=pair.keep("reference", to_picture(reference)),
        candidate_path=pair.keep("candidate", to_picture(candidate)),
        difference_path=pair.keep("difference", draw_difference(reference, candidate)),
    )


def _metrics(
    reference: Any, candidate: Any, *, identical: bool
) -> tuple[Reading[float], Reading[float], Reading[float], Reading[float]]:
    import numpy as np

    metrics: Any = import_module("skimage.metrics")

    exact, other = (image.astype(np.float64) for image in (reference, candidate))
    psnr: Reading[float] = Unknown(reason="the images are identical: the ratio to no noise is infinite")
    if not identical:
        psnr = Known[float](value=float(metrics.peak_signal_noise_ratio(exact, other, data_range=1.0)))
    nrmse: Reading[float] = Unknown(reason="the reference is black: there is nothing to normalise by")
    if exact.any():
        nrmse = Known[float](value=float(metrics.normalized_root_mse(exact, other)))
    return (
        Known[float](value=float(metrics.structural_similarity(exact, other, data_range=1.0, channel_axis=2))),
        psnr,
        nrmse,
        Known[float](value=float(np.abs(exact - other).max())),
    )


def _animate(
    session: Session, pictures: dict[str, bytes], name: str, reference: tuple[Any, ...], candidate: tuple[Any, ...]
) -> str | None:
    path = session.image_path(name)
    if path is not None:
        pictures[path] = encode_animation(reference, candidate)
    return path
