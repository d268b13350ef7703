from typing import get_args

import pytest

from sdbench.models.pipeline_folders import load_shipped
from sdbench.models.schedulers import FLOW_SCHEDULERS, SCHEDULERS, build_scheduler
from sdbench.models.work import count_denoiser_calls
from sdbench.schema.experiment import Scheduler


def test_the_table_holds_the_schedulers_of_the_schema_and_no_other() -> None:
    assert set(SCHEDULERS) == set(get_args(Scheduler))


# torch 2.13's tensors do not take NumPy 2's copy keyword; the array is copied, as it should be.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in FLOW_SCHEDULERS])
def test_every_scheduler_keeps_the_noise_schedule_of_the_pipeline(name: Scheduler) -> None:
    scheduler = build_scheduler(name, load_shipped("sd-1.4").scheduler, None)
    assert type(scheduler).__name__ == SCHEDULERS[name].partition(":")[2]
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert (scheduler.config.beta_start, scheduler.config.beta_end) == (0.00085, 0.012)
    assert scheduler.config.steps_offset == 1
    assert not scheduler.config.get("clip_sample")


# torch 2.13's tensors do not take NumPy 2's copy keyword; the array is copied, as it should be.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "call_count"),
    [("pndm", 51), ("ddim", 50), ("euler", 50), ("dpm++", 50), ("lcm", 50), ("unipc", 50), ("euler-ancestral", 50)],
)
def test_fifty_steps_take_as_many_denoiser_calls_as_the_scheduler_needs(name: Scheduler, call_count: int) -> None:
    scheduler = build_scheduler(name, load_shipped("sd-1.4").scheduler, None)
    assert count_denoiser_calls(scheduler, 50) == call_count
    assert scheduler.num_inference_steps is None


@pytest.mark.parametrize("name", ["flux.1-dev", "flux.1-schnell", "sd-3.5-medium", "z-image-turbo"])
def test_flow_matching_calls_the_denoiser_once_a_step(name: str) -> None:
    scheduler = build_scheduler("flow-euler", load_shipped(name).scheduler, None)
    assert count_denoiser_calls(scheduler, 4) == 4


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_timestep_spacing_moves_the_steps() -> None:
    native, trailing = (build_scheduler("euler", load_shipped("sdxl").scheduler, it) for it in (None, "trailing"))
    assert (native.config.timestep_spacing, trailing.config.timestep_spacing) == ("leading", "trailing")
