"""The schedulers that an experiment can name, and which pipelines they fit."""

from importlib import import_module
from inspect import signature
from typing import Any

from sdbench.schema.experiment import Scheduler, TimestepSpacing
from sdbench.schema.pipeline import Component, PipelineConfig

# module:class in diffusers; importing one of them costs seconds, so the table holds strings.
SCHEDULERS: dict[Scheduler, str] = {
    "pndm": "diffusers.schedulers.scheduling_pndm:PNDMScheduler",
    "ddim": "diffusers.schedulers.scheduling_ddim:DDIMScheduler",
    "euler": "diffusers.schedulers.scheduling_euler_discrete:EulerDiscreteScheduler",
    "euler-ancestral": "diffusers.schedulers.scheduling_euler_ancestral_discrete:EulerAncestralDiscreteScheduler",
    "dpm++": "diffusers.schedulers.scheduling_dpmsolver_multistep:DPMSolverMultistepScheduler",
    "unipc": "diffusers.schedulers.scheduling_unipc_multistep:UniPCMultistepScheduler",
    "lcm": "diffusers.schedulers.scheduling_lcm:LCMScheduler",
    "flow-euler": "diffusers.schedulers.scheduling_flow_match_euler_discrete:FlowMatchEulerDiscreteScheduler",
}
# Those for networks that predict a velocity between noise and image; the others are for networks that predict noise.
FLOW_SCHEDULERS: tuple[Scheduler, ...] = ("flow-euler",)
# Those that ignore ``timestep_spacing``: LCM takes its steps out of those that it was distilled with.
UNSPACED_SCHEDULERS: tuple[Scheduler, ...] = (*FLOW_SCHEDULERS, "lcm")
# original_inference_steps of LCMScheduler, whose set_timesteps refuses more.
LCM_STEPS_MAX = 50
# Those that make few steps do, whatever number the pipeline was made for.
FEW_STEP_SCHEDULERS: tuple[Scheduler, ...] = ("lcm",)
# Those that add noise in each step.
STOCHASTIC_SCHEDULERS: tuple[Scheduler, ...] = ("euler-ancestral", "lcm")


def native_scheduler(config: PipelineConfig) -> Scheduler | None:
    """Return the name of the scheduler that a pipeline comes with, None if it is none that an experiment can name."""
    names = {path.rpartition(":")[2]: name for name, path in SCHEDULERS.items()}
    return names.get(config.scheduler.class_name)


def build_scheduler(name: Scheduler, native: Component, spacing: TimestepSpacing | None) -> Any:
    """Return the diffusers scheduler called ``name``, with the noise schedule of the pipeline's ``native`` one."""
    module, _, class_name = SCHEDULERS[name].partition(":")
    scheduler_class = getattr(import_module(module), class_name)
    config = native.config | ({} if spacing is None else {"timestep_spacing": spacing})
    # Each takes the keys it knows, as diffusers' from_config does, which logs the others.
    known = signature(scheduler_class).parameters
    return scheduler_class(**{key: value for key, value in config.items() if key in known})
