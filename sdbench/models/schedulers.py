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
# The scheduler whose words the architectures' configs are written in.
CONFIG_SCHEDULER = "pndm"


def build_scheduler(name: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - diffusers is untyped
    """Return the diffusers scheduler called ``name``, with the noise schedule of an architecture's ``config``.

    Raises:
        UserError: there is no scheduler of that name.
    """
    if name not in SCHEDULERS:
        nearest = get_close_matches(name, SCHEDULERS, n=1, cutoff=0.3)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise UserError(f"unknown scheduler {name!r}; {hint}known schedulers: {', '.join(sorted(SCHEDULERS))}")
    # Taking the other schedulers' configs from the native one is how diffusers swaps schedulers: what only the
    # native one understands is dropped by it, not by us.
    native = _class_of(CONFIG_SCHEDULER).from_config(dict(config))
    return native if name == CONFIG_SCHEDULER else _class_of(name).from_config(native.config)


def _class_of(name: str) -> Any:  # noqa: ANN401 - diffusers is untyped
    module, _, class_name = SCHEDULERS[name].partition(":")
    return getattr(import_module(module), class_name)
