"""How to repeat it: the command, the weights, the seed, the manifest and the seal."""

import json
from collections.abc import Iterable, Sequence

from sdbench.compare.repeat import make_command
from sdbench.report.format import make_table, reading_cell, texts
from sdbench.report.grouping import group_by
from sdbench.report.model import Cell, Detail, Recipe, ReproduceSection, Table
from sdbench.report.series import Machine, Source
from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Record
from sdbench.schema.worker_environment import WeightsSource, WorkerEnvironment
from sdbench.units import format_count

TITLE = "The same run again"
_COMMIT_DIGITS = 12
_NOT_RECORDED = "not recorded by the source"
WEIGHTS_SOURCES: dict[WeightsSource, str] = {
    "drawn": "drawn by the launch",
    "mapped": "kept in the cache folder",
    "downloaded": "downloaded files",
    "file": "files of this machine",
    "exported": "exported graphs",
    "simulated": "none, simulated",
}


def build(source: Source) -> ReproduceSection:
    """Return the command of each run, with what it depends on."""
    sentence = (
        "REPOSITORY is where you have sdbench from. A manifest that does not come with sdbench is below: save it under "
        "the name in the command (JSON is YAML too). The same seed draws the same starting noise on every machine."
    )
    if any(machine.record.pipelines for machine in source.machines):
        sentence += " PATH is the folder or file of the pipeline, which has the name and the hash below."
    records = [machine.record for machine in source.machines]
    by_command = group_by(source.machines, lambda machine: make_command(machine.record, records))
    recipes = tuple(_recipe(command, machines) for command, machines in by_command.items())
    return ReproduceSection(paragraphs=(sentence,), recipes=recipes)


def repeat_commands(record: Record, command: str) -> tuple[str, ...]:
    """Return the lines that make a run again: clone, the commit with its environment where it is known, the command."""
    commit = record.fingerprint.software.sdbench_commit
    clone = "git clone REPOSITORY sdbench && cd sdbench"
    if not isinstance(commit, Known):
        return clone, "make run-environment", f".venv/bin/{command}"
    return clone, f"git checkout {commit.value[:_COMMIT_DIGITS]} && make run-environment", f".venv/bin/{command}"


def manifest_text(record: Record) -> str:
    """Return the manifest without what equals a default, as indented JSON, which a YAML reader takes too."""
    written = record.manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(written, indent=2, ensure_ascii=False)


def _recipe(command: str, machines: Sequence[Machine]) -> Recipe:
    manifests = {manifest_text(machine.record): machine.record.manifest.title for machine in machines}
    others = f" and {format_count(len(machines) - 1, 'more run')}" if len(machines) > 1 else ""
    return Recipe(
        title=machines[0].name + others,
        command="\n".join(repeat_commands(machines[0].record, command)),
        facts=tuple(map(_facts, machines)),
        manifests=tuple(Detail(title=f"Manifest: {title}", text=text) for text, title in manifests.items()),
    )


def _facts(machine: Machine) -> Table:
    record = machine.record
    software = record.fingerprint.software
    imported = record.origin == "imported"
    no_launch = _NOT_RECORDED if imported else "no launch ended"
    environments = [launch.environment for result in record.results for launch in launches_of(result.outcome)]
    experiments = [result.planned.experiment for result in record.results]
    rows: list[tuple[Cell | str, ...]] = [
        ("Run", record.run_id),
        ("Started, ended (UTC)", f"{record.created_utc}, {record.ended_utc} ({record.ended})"),
        ("Record seal, sha256", record.seal),
        ("Imported file, sha256" if imported else "Manifest, sha256", record.request.manifest_sha256),
        ("sdbench version", reading_cell("version", software.sdbench_version)),
        ("sdbench commit", reading_cell("commit", software.sdbench_commit)),
        ("Uncommitted changes", reading_cell("dirty", software.sdbench_dirty)),
        ("Container image, digest", reading_cell("image", software.image_digest)),
        ("Container image, id", reading_cell("image", software.image_id)),
        ("Python", reading_cell("python", software.python)),
        ("torch", _distinct(environment.backend_version for environment in environments) or no_launch),
        ("Pipeline", _distinct(experiment.pipeline for experiment in experiments)),
        ("Weights", _distinct(map(_weights_words, experiments))),
        ("Weights digest", _distinct(environment.weights_digest for environment in environments) or no_launch),
        ("Token ids", _distinct(map(_tokens_words, environments)) or no_launch),
        ("Weights loaded from", _distinct(WEIGHTS_SOURCES[item.weights_source] for item in environments) or no_launch),
        ("Seed", _NOT_RECORDED if imported else _distinct(str(experiment.seed) for experiment in experiments)),
        ("Prompt", " / ".join(dict.fromkeys(experiment.prompt for experiment in experiments))),
    ]
    return make_table(f"What was run on {machine.name}", texts("What", "Value"), rows)


def _distinct(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _tokens_words(environment: WorkerEnvironment) -> str:
    drawn = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in environment.drawn_tokens.items())
    return f"drawn, because the vocabulary is on the hub only: {drawn}" if drawn else "of the prompt"


def _weights_words(experiment: Experiment) -> str:
    if experiment.weights == "synthetic":
        return f"synthetic, seed {experiment.weights_seed} ({experiment.pipeline_title})"
    if not experiment.needs_hub:
        return f"pretrained, those of {experiment.pipeline}"
    return f"pretrained, {experiment.hub_id} at {experiment.revision or 'a revision that was not recorded'}"
