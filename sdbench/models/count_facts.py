"""``python -m sdbench.models.count_facts``: a pipeline's configs on standard input, its counts on the output.

With ``--shipped`` it prints the counts of all shipped pipelines, which is sdbench/models/pipelines/facts.json.
"""

import json
import sys
from fractions import Fraction
from typing import Any

from sdbench.errors import UserError
from sdbench.models.diffusers_layout import CONFIG_FILE
from sdbench.models.facts import PipelineFacts, facts_key
from sdbench.models.networks import build_on_meta, name_parameters
from sdbench.models.pipeline_folders import load_shipped, shipped_pipelines
from sdbench.models.work import count_networks, count_text_tokens
from sdbench.schema.pipeline import Component, PipelineConfig

# Multiples of the native size at which FLOP are counted: three points decide a polynomial of the second degree.
_SCALES = (1, 2, 4)
_SMALLEST_PX = 256


def count_facts(config: PipelineConfig) -> PipelineFacts:
    """Return the parameters and the FLOP of a pipeline; raises as ``build_on_meta``."""
    import torch

    tensors = {
        name: name_parameters(_build(name, component, torch.float16)).values()
        for name, component in config.networks.items()
    }
    parameters = {name: sum(tensor.numel() for tensor in items) for name, items in tensors.items()}
    kept = [tensor for items in tensors.values() for tensor in items if tensor.dtype == torch.float32]
    tokens = count_text_tokens(config, None)
    counts: dict[str, list[tuple[int, int]]] = {}
    for scale in _SCALES:
        size = _SMALLEST_PX * scale
        latent_tokens = config.latent_tokens(size, size)
        for name, work in count_networks(config, size, size, tokens, None).items():
            counts.setdefault(name, []).append((latent_tokens, work.flop))
    flop_by_name = {name: (float(points[0][1]),) if name in tokens else _fit(points) for name, points in counts.items()}
    return PipelineFacts(parameters=parameters, kept_in_fp32=sum(tensor.numel() for tensor in kept), flop=flop_by_name)


def _build(name: str, component: Component, dtype: Any) -> Any:
    try:
        return build_on_meta(component, dtype)
    except UserError as error:
        raise UserError(f"{name}/{CONFIG_FILE}: {error}") from error


def _fit(points: list[tuple[int, int]]) -> tuple[float, ...]:
    """Return the coefficients of the polynomial of the second degree through three points, by divided differences."""
    (x0, y0), (x1, y1), (x2, y2) = ((Fraction(x), Fraction(y)) for x, y in points)
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    square = (second - first) / (x2 - x0)
    linear = first - square * (x0 + x1)
    return float(y0 - linear * x0 - square * x0 * x0), float(linear), float(square)


def main(arguments: list[str]) -> None:
    """Count one pipeline, or all that ship."""
    if arguments == ["--shipped"]:
        configs = [load_shipped(name) for name in shipped_pipelines()]
        facts = {facts_key(config): count_facts(config).to_json_dict() for config in configs}
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        sys.stdout.write(count_facts(PipelineConfig.model_validate_json(sys.stdin.buffer.read())).model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1:])
