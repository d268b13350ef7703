"""Counts the work of a pipeline call on the meta device: shapes only, no weights and no time."""

import copy
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.models.denoiser_inputs import denoiser_inputs
from sdbench.models.facts import BYTES_PER_VALUE
from sdbench.models.networks import build_on_meta
from sdbench.models.pipeline_folders import find_pipeline
from sdbench.models.schedulers import FEW_STEP_SCHEDULERS
from sdbench.schema.base import Count, Model, sha256_of
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import DECODER, PipelineConfig
from sdbench.schema.work import Work
from sdbench.store.cache_folder import write_cached

_FOLDER = "work"
_KEY_DIGITS = 16


class NetworkCounts(Model):
    """The work of one call of a network for one sample: FLOP, operators, the weights and other values they move."""

    flop: Count
    weights: Count
    values: Count
    operators: Count


_COUNTS: TypeAdapter[dict[str, NetworkCounts]] = TypeAdapter(dict[str, NetworkCounts])


def count_work(experiment: Experiment, config: PipelineConfig, scheduler: Any, cache_folder: Path) -> Work:
    """Return the work of one call of an experiment; ``cache_folder`` remembers the FLOP of each network and size."""
    calls = count_denoiser_calls(scheduler, experiment.steps)
    native_steps = experiment.steps if experiment.scheduler in FEW_STEP_SCHEDULERS else config.native.steps
    tokens = count_text_tokens(config, experiment.max_sequence_length)
    counts = count_networks(config, experiment.height, experiment.width, tokens, cache_folder)
    runs = config.runs_per_image(calls, experiment.guidance_scale, experiment.negative_prompt)
    # A second half of the batch is in the same call of the denoiser; prompts are encoded one by one.
    network_calls = runs | {config.denoiser_name: calls}
    computed = experiment.precision if experiment.autocast == "off" else experiment.autocast
    stored_bytes, computed_bytes = BYTES_PER_VALUE[experiment.precision], BYTES_PER_VALUE[computed]
    return Work(
        pixels=experiment.height * experiment.width,
        latent_tokens=config.latent_tokens(experiment.height, experiment.width),
        text_tokens=tokens,
        denoiser_calls=calls,
        native_steps=native_steps,
        denoiser_calls_at_native_steps=count_denoiser_calls(scheduler, native_steps),
        flop_per_image={name: counts[name].flop * count for name, count in runs.items()},
        weight_bytes={name: counts[name].weights * stored_bytes * count for name, count in network_calls.items()},
        activation_bytes_per_image={name: counts[name].values * computed_bytes * count for name, count in runs.items()},
        operators={name: counts[name].operators * count for name, count in network_calls.items()},
    )


def keep_counts(experiment: Experiment, cache_folder: Path) -> None:
    """Count the work of an experiment's networks into ``cache_folder``, so that loading finds them there."""
    config = find_pipeline(experiment, cache_folder)
    tokens = count_text_tokens(config, experiment.max_sequence_length)
    count_networks(config, experiment.height, experiment.width, tokens, cache_folder)


def count_denoiser_calls(scheduler: Any, steps: int) -> int:
    """Return how often a scheduler calls the denoiser for ``steps`` steps: PNDM once more."""
    counted = copy.deepcopy(scheduler)
    # The shift by the image's size moves the steps, and does not change how many there are.
    counted.set_timesteps(steps, **({"mu": 1.0} if counted.config.get("use_dynamic_shifting") else {}))
    return len(counted.timesteps)


def count_text_tokens(config: PipelineConfig, max_sequence_length: int | None) -> dict[str, int]:
    """Return the tokens that each text encoder gets of a prompt."""
    counts = {}
    for name in config.text_encoders:
        component = config.networks[name]
        if component.class_name.startswith("CLIP"):
            counts[name] = int(component.config["max_position_embeddings"])
        else:
            counts[name] = config.prompt_tokens(max_sequence_length)
    if config.class_name == "StableDiffusion3Pipeline":
        # Without T5 the pipeline puts as many zeros in place of its states.
        counts.setdefault("text_encoder_3", config.prompt_tokens(max_sequence_length))
    return counts


def count_networks(
    config: PipelineConfig, height: int, width: int, tokens: dict[str, int], cache_folder: Path | None
) -> dict[str, NetworkCounts]:
    """Return the work of one call of each network for one sample of an image of this size (pixels).

    FLOP are counted by torch's FlopCounterMode: matrix products, convolutions and attention, which are all but a few
    per cent.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from sdbench.models.traffic import TrafficCounter

    networks = {name: item.to_json_dict() for name, item in config.networks.items()}
    counted = {"counted_with": _versions(), "counts": sorted(NetworkCounts.model_fields)}
    key = {"networks": networks, "height": height, "width": width, "tokens": tokens} | counted
    path = None if cache_folder is None else cache_folder / _FOLDER / f"{sha256_of(key)[:_KEY_DIGITS]}.json"
    if path is not None and (known := _read(path, config)) is not None:
        return known
    counts: dict[str, NetworkCounts] = {}
    for name, component in config.networks.items():
        network = build_on_meta(component)
        try:
            # The last one entered sees an operator first: before its FLOP are counted in parts.
            with FlopCounterMode(display=False) as flop, TrafficCounter(network) as traffic, traffic.attention:
                _run(network, name, config, height, width, tokens)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            problem = f"cannot build a working network from {name}/config.json ({reason})"
            raise UserError(f"{problem}; correct the config or the override") from error
        counts[name] = NetworkCounts(
            flop=int(flop.get_total_flops()),
            weights=traffic.weights,
            values=traffic.values,
            operators=traffic.operators,
        )
    if path is not None:
        with suppress(EnvironmentProblem):  # then the next launch counts again
            write_cached(path, _COUNTS.dump_json(counts))
    return counts


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "diffusers", "transformers")}


def _read(path: Path, config: PipelineConfig) -> dict[str, NetworkCounts] | None:
    with suppress(OSError, ValueError):
        counts = _COUNTS.validate_json(path.read_bytes())
        return counts if counts.keys() == config.networks.keys() else None
    return None


def _run(network: Any, name: str, config: PipelineConfig, height: int, width: int, tokens: dict[str, int]) -> None:
    import torch

    rows, columns = height // config.pixels_per_latent, width // config.pixels_per_latent
    if name == DECODER:
        network.decode(_make(1, config.latent_channels, rows, columns))
    elif name in tokens:
        network(input_ids=_make(1, tokens[name]).to(torch.int64))
    else:
        network(**denoiser_inputs(config, 1, rows, columns, tokens, _make))


def _make(*shape: int) -> Any:
    import torch

    return torch.zeros(shape, device="meta")
