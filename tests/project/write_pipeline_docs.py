"""Writes the tables of docs/reference/pipelines.md: python -m tests.project.write_pipeline_docs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sdbench.models.facts import load_facts
from sdbench.models.pipeline_folders import Shipped, load_shipped, shipped_pipelines
from sdbench.plan.estimate import count_denoiser_calls
from sdbench.plan.families import native_options
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import DECODER

PATH = Path(__file__).parents[2] / "docs" / "reference" / "pipelines.md"
_TITLES = (
    *("pipeline", "class", "text encoders", "denoiser", "decoder", "parameters in all"),
    *("size", "steps", "guidance", "tokens", "TFLOP an image"),
)
_TERA = 1e12
_ROLE = {"unet": "UNet", "transformer": "transformer"}


def format_page(page: str) -> str:
    """Return the page with the table below each marker written from the shipped pipelines."""
    for marker, table in (("counts", _format_counts()), ("sources", _format_sources())):
        before, line, after = page.partition(f"<!-- {marker} -->\n\n")
        if not after.startswith("|"):
            raise ValueError(f"{PATH.name} has no table below <!-- {marker} -->; add one with any head")
        page = before + line + table + "\n\n" + after.partition("\n\n")[2]
    return page


def _format_counts() -> str:
    rows = [_TITLES, ("---",) * 6 + ("---:",) * 5, *(_row(name, line) for name, line in shipped_pipelines().items())]
    return _format_table(rows)


def _format_sources() -> str:
    rows = [(f"`{name}`", f"`{line.source}`") for name, line in shipped_pipelines().items() if line.source]
    return _format_table([("pipeline", "source"), ("---", "---"), *rows])


def _format_table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(name: str, line: Shipped) -> tuple[str, ...]:
    config = load_shipped(name)
    # The counts of shipped pipelines are in the package; nothing is read from or written to this folder.
    facts = load_facts(config, Path("unused"))
    experiment = Experiment(pipeline=name, **native_options(config))
    flop = facts.flop_per_image(config, experiment, count_denoiser_calls(experiment))
    counts = {part: f"{facts.parameters[part]:,}" for part in config.networks}
    encoders = "<br>".join(counts[part] for part in config.text_encoders)
    return (
        f"`{name}`",
        f"`{config.class_name}`",
        encoders,
        f"{_ROLE[config.denoiser_name]} {counts[config.denoiser_name]}",
        counts[DECODER],
        f"{facts.parameter_count:,}",
        f"{line.size}",
        f"{line.steps}",
        f"{line.guidance:g}",
        "77" if line.max_sequence_length is None else f"{line.max_sequence_length}",
        f"{float(f'{flop / _TERA:.3g}'):,g}",
    )


if __name__ == "__main__":
    PATH.write_text(format_page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
