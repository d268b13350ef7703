import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdbench.backends.base import Clock, Observation
from sdbench.schema.base import Known, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.workload_results import PrecisionResult
from sdbench.workloads import precision
from sdbench.workloads.base import WorkloadOutput
from sdbench.workloads.pictures import AMPLIFICATION, draw_difference, to_picture
from tests.records import make_experiment
from tests.workloads.virtual import FakeClock, VirtualBackend, VirtualSession

SIDE = 16
CALLS = 5


def reference_image(number: int) -> Any:
    return np.random.default_rng(number).uniform(0.2, 0.8, (SIDE, SIDE, 3)).astype(np.float32)


@dataclasses.dataclass
class Painter(VirtualBackend):
    """Paints the reference, moved by ``shift``; every image knows its number of steps or calls."""

    shift: float = 0.0
    broken_pixel: float | None = None

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        self.log.append(f"run {steps}{' every call' * every_call}")
        return tuple(self.paint(call) for call in range(CALLS)) if every_call else (self.paint(steps),)

    def paint(self, number: int) -> Any:
        image = reference_image(number) + np.float32(self.shift)
        if self.broken_pixel is not None:
            image[0, 0, 0] = self.broken_pixel
        return image

    def observe(self, clock: Clock) -> Observation:
        self.log.append("observe")
        return super().observe(clock)


@dataclasses.dataclass
class PainterSession(VirtualSession):
    opened: list[Experiment] = dataclasses.field(default_factory=list)
    candidate: Painter = dataclasses.field(default_factory=lambda: Painter(FakeClock(), [1.0]))

    def open_backend(self, experiment: Experiment) -> VirtualBackend:
        self.opened.append(experiment)
        return self.candidate if experiment.workload == "precision" else self.machine


def workload_result(
    shift: float = 0.01, broken_pixel: float | None = None, **changes: Any
) -> tuple[PrecisionResult, WorkloadOutput, PainterSession]:
    experiment = make_experiment(
        workload="precision", precision="fp16", sweep_min=2, sweep_max=6, sweep_every=2, height=SIDE, width=SIDE
    )
    clock = FakeClock()
    session = PainterSession(
        Painter(clock, [1.0]),
        Protocol(),
        experiment=experiment,
        candidate=Painter(clock, [1.0], shift=shift, broken_pixel=broken_pixel),
        **changes,
    )
    result = precision.run(session)
    assert isinstance(result.workload_result, PrecisionResult)
    return result.workload_result, result, session


def test_reference_is_the_plain_fp32_experiment_and_is_run_first() -> None:
    _, _, session = workload_result()
    reference, candidate = session.opened
    assert (reference.precision, reference.workload) == ("fp32", "latency")
    assert candidate == session.experiment
    assert (reference.prompt, reference.seed, reference.steps) == (candidate.prompt, candidate.seed, candidate.steps)


def test_reference_is_checked_to_be_in_fp32_before_its_images_are_made() -> None:
    _, _, session = workload_result()
    log = session.machine.log
    assert log.index("check fp32") < log.index("run 4 every call")
    assert "check fp32" not in session.candidate.log


def test_every_call_of_one_run_and_every_length_of_separate_runs_is_compared() -> None:
    result, _, session = workload_result()
    assert [item.call for item in result.trajectory] == [1, 2, 3, 4, 5]
    assert [item.steps for item in result.sweep] == [2, 4, 6]
    assert [entry for entry in session.candidate.log if entry.startswith("run")] == [
        "run 4 every call",
        "run 2",
        "run 4",
        "run 6",
    ]


def test_candidate_is_verified_in_a_run_of_its_own() -> None:
    _, _, session = workload_result()
    assert "observe" in session.candidate.log


def test_metrics_are_those_of_a_known_shift() -> None:
    result, _, _ = workload_result(shift=0.01)
    item = result.sweep[0]
    assert isinstance(item.psnr_db, Known)
    assert item.psnr_db.value == pytest.approx(40.0, abs=1e-3)  # 10 log10(1 / 0.01^2)
    assert isinstance(item.largest_difference, Known)
    assert item.largest_difference.value == pytest.approx(0.01, abs=1e-6)
    assert isinstance(item.nrmse, Known)
    norm = float(np.sqrt((reference_image(2).astype(np.float64) ** 2).mean()))
    assert item.nrmse.value == pytest.approx(0.01 / norm, rel=1e-4)
    assert isinstance(item.ssim, Known)
    assert 0.9 < item.ssim.value < 1


def test_identical_images_are_said_to_be_so_and_have_no_noise_ratio() -> None:
    item = workload_result(shift=0.0)[0].sweep[0]
    assert item.identical
    assert item.ssim == Known(value=1.0)
    assert isinstance(item.psnr_db, Unknown)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted_and_have_no_metric(broken: float) -> None:
    item = workload_result(broken_pixel=broken)[0].sweep[0]
    assert (item.non_finite_count, item.reference_non_finite_count) == (1, 0)
    assert isinstance(item.ssim, Unknown)
    assert isinstance(item.largest_difference, Unknown)


def test_pictures_and_one_animation_a_pair_are_kept_where_asked() -> None:
    result, output, _ = workload_result(keeps_images=True)
    assert result.sweep[0].difference_path == "images/0123456789abcdef-0-sweep-002-difference.webp"
    assert len(output.pictures) == 3 * (5 + 3) + 2
    assert result.trajectory_animation_path is not None
    animation = Image.open(io.BytesIO(output.pictures[result.trajectory_animation_path]))
    assert (animation.size, getattr(animation, "n_frames", 1)) == ((3 * SIDE, SIDE), 5)


def test_nothing_is_kept_where_not_asked() -> None:
    result, output, _ = workload_result()
    assert output.pictures == {}
    assert result.sweep[0].candidate_path is None


def test_differences_are_amplified_as_stated_and_cut_off_at_white() -> None:
    black = np.zeros((2, 2, 3), np.float32)
    drawn = np.asarray(draw_difference(black, black + np.float32(0.02)))
    assert drawn[0, 0, 0] == round(0.02 * AMPLIFICATION * 255)
    assert np.asarray(draw_difference(black, black + np.float32(1))).min() == 255


def test_what_is_not_finite_is_drawn_in_magenta() -> None:
    image = np.zeros((1, 1, 3), np.float32)
    image[0, 0, 1] = np.nan
    assert tuple(np.asarray(to_picture(image))[0, 0]) == (255, 0, 255)
