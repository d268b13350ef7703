"""Schedulers by the names manifests use."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from sdbench.errors import UserError

# module:class in diffusers; importing one of them costs seconds, so the table holds words.
SCHEDULERS: dict[str, str] = {
    "pndm": "diffusers.schedulers.scheduling_pndm:PNDMScheduler",
    "ddim": "diffusers.schedulers.scheduling_ddim:DDIMScheduler",
    "euler": "diffusers.schedulers.scheduling_euler_discrete:EulerDiscreteScheduler",
    "dpm++": "diffusers.schedulers.scheduling_dpmsolver_multistep:DPMSolverMultistepScheduler",
}


def build_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """Return the diffusers scheduler called ``name``, with the noise schedule of an architecture's ``config``.

    Raises:
        UserError: there is no scheduler of that name.
    """
    if name not in SCHEDULERS:
        nearest = get_close_matches(name, SCHEDULERS, n=1, cutoff=0.3)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise UserError(f"unknown scheduler {name!r}; {hint}known schedulers: {', '.join(sorted(SCHEDULERS))}")
    module, _, class_name = SCHEDULERS[name].partition(":")
    # from_config, not the constructor: each scheduler takes the words it knows and leaves the others.
    return getattr(import_module(module), class_name).from_config(dict(config))
