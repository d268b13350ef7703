"""Parameters and FLOP of a pipeline, without torch in this process: for plans, and for what is known of a pipeline."""

import json
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import distributions
from importlib.resources import files
from math import fsum
from pathlib import Path

from pydantic import ValidationError

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.schema.base import Model, sha256_of
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import PipelineConfig
from sdbench.store.cache_folder import write_cached

_SHIPPED = files("sdbench.models").joinpath("pipelines", "facts.json")
_FOLDER = "facts"
_KEY_DIGITS = 16
_COUNTERS = ("diffusers", "torch", "transformers")
# -P: a sdbench of the current folder is not what counts.
COMMAND = (sys.executable, "-P", "-m", "sdbench.models.count_facts")
COUNTING_S_MAX = 60.0
BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "bf16": 2}


class PipelineFacts(Model):
    """What is counted of a pipeline, by network.

    ``kept_in_fp32`` are the parameters that fp16 leaves in fp32, which T5 asks for. ``flop`` are the coefficients of a
    polynomial in the latent tokens of an image, from the constant term: convolutions grow with them, attention with
    their square. Text encoders have a constant only.
    """

    parameters: dict[str, int]
    kept_in_fp32: int
    flop: dict[str, tuple[float, ...]]

    @property
    def parameter_count(self) -> int:
        """The parameters of all networks."""
        return sum(self.parameters.values())

    def weights_bytes(self, precision: str) -> int:
        """Return what the weights take in a precision."""
        width = BYTES_PER_VALUE[precision]
        kept = self.kept_in_fp32 * (BYTES_PER_VALUE["fp32"] - width) if precision == "fp16" else 0
        return self.parameter_count * width + kept

    def flop_of(self, name: str, latent_tokens: int) -> float:
        """Return the FLOP of one call of a network for one sample of an image of so many latent tokens."""
        return fsum(factor * float(latent_tokens) ** power for power, factor in enumerate(self.flop[name]))

    def flop_per_image(self, config: PipelineConfig, experiment: Experiment, calls: int) -> float:
        """Return the FLOP of one image with so many denoiser calls."""
        counts = config.runs_per_image(calls, experiment.guidance_scale, experiment.negative_prompt)
        latent_tokens = config.latent_tokens(experiment.height, experiment.width)
        return fsum(count * self.flop_of(name, latent_tokens) for name, count in counts.items())


def load_facts(config: PipelineConfig, cache_folder: Path) -> PipelineFacts:
    """Return what is counted of a pipeline: at once for a shipped one, else by torch in a process of its own, once.

    Raises:
        UserError: a network cannot be built from its config, or does not run.
        EnvironmentProblem: torch or diffusers is not installed.
    """
    key = facts_key(config)
    if (shipped := shipped_facts(config)) is not None:
        return shipped
    path = cache_folder / _FOLDER / f"{sha256_of([key, _installed()])[:_KEY_DIGITS]}.json"
    try:
        return PipelineFacts.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        facts = _count_in_child(config)
    with suppress(EnvironmentProblem):  # then the next plan counts again
        write_cached(path, facts.model_dump_json().encode())
    return facts


def shipped_facts(config: PipelineConfig) -> PipelineFacts | None:
    """Return what sdbench itself has counted of a pipeline; None of one that does not ship with it."""
    return _shipped_facts().get(facts_key(config))


def facts_key(config: PipelineConfig) -> str:
    """Return a hash of all that decides the counts of a pipeline."""
    networks = {name: item.to_json_dict() for name, item in config.networks.items()}
    return sha256_of({"networks": networks, "tokens": config.native.max_sequence_length})[:_KEY_DIGITS]


def _installed() -> list[str]:
    """Return the versions of what counts, as far as it is installed."""
    return sorted(f"{item.name} {item.version}" for item in distributions() if item.name in _COUNTERS)


@cache
def _shipped_facts() -> dict[str, PipelineFacts]:
    content = json.loads(_SHIPPED.read_text(encoding="utf-8")) if _SHIPPED.is_file() else {}
    return {key: PipelineFacts.model_validate_json(json.dumps(item)) for key, item in content.items()}


def _count_in_child(config: PipelineConfig) -> PipelineFacts:
    content = config.model_dump_json().encode()
    try:
        done = subprocess.run(COMMAND, input=content, capture_output=True, timeout=COUNTING_S_MAX)
    except subprocess.TimeoutExpired:
        problem = f"{config.name}: its parameters and FLOP were not counted within {COUNTING_S_MAX:g} s"
        raise UserError(f"{problem}; choose fewer layers, in its configs or the override") from None
    if done.returncode == 0:
        return PipelineFacts.model_validate_json(done.stdout)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
    kind, _, message = lines[-1].partition(": ")
    if kind in ("ModuleNotFoundError", "ImportError"):
        raise EnvironmentProblem(
            f"the parameters of {config.name} cannot be counted: {lines[-1]}; install torch and diffusers"
        )
    if kind.endswith("UserError"):
        raise UserError(f"{config.name}: {message}")
    raise UserError(f"{config.name}: cannot build a working network from its configs ({lines[-1]}); correct them")
