from typing import get_args

import pytest

from sdbench.errors import UserError
from sdbench.models.architectures import load_architecture
from sdbench.models.pipeline import SCHEDULERS, build_scheduler
from sdbench.schema.experiment import Scheduler


def test_the_table_holds_the_schedulers_of_the_schema_and_no_other() -> None:
    assert set(SCHEDULERS) == set(get_args(Scheduler))


def test_an_unknown_scheduler_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown scheduler 'plms'; choose one of: pndm, ddim, euler, dpm\+\+"):
        build_scheduler("plms", {})


@pytest.mark.parametrize(("name", "class_name"), [(name, path.partition(":")[2]) for name, path in SCHEDULERS.items()])
def test_every_scheduler_keeps_the_noise_schedule_of_the_architecture(name: str, class_name: str) -> None:
    scheduler = build_scheduler(name, load_architecture("sd-1.4").scheduler)
    assert type(scheduler).__name__ == class_name
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert (scheduler.config.beta_start, scheduler.config.beta_end) == (0.00085, 0.012)
    assert scheduler.config.steps_offset == 1
    assert not scheduler.config.get("clip_sample")


# torch 2.13's tensors do not take NumPy 2's copy keyword; the array is copied, as it should be.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("name", "call_count"), [("pndm", 51), ("ddim", 50), ("euler", 50), ("dpm++", 50)])
def test_fifty_steps_take_as_many_unet_calls_as_the_scheduler_needs(name: str, call_count: int) -> None:
    scheduler = build_scheduler(name, load_architecture("sd-1.4").scheduler)
    scheduler.set_timesteps(50)
    assert len(scheduler.timesteps) == call_count
