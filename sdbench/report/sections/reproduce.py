"""How to repeat it: the command, the weights, the seed, the manifest and the seal."""

import json
import shlex

from sdbench.report.model import Cell, Detail, Recipe, ReproduceSection, Table
from sdbench.report.points import Machine, Source
from sdbench.report.text import make_table, reading_cell
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Record

TITLE = "How can I repeat it?"
_NOT_RECORDED = "not recorded by the source"


def build(source: Source) -> ReproduceSection:
    """Return the command of each run, with what it depends on."""
    sentence = (
        "Install the version below, save the manifest under the name in the command (JSON is YAML too), and run it. "
        "The same seed draws the same starting noise on every machine."
    )
    recipes = tuple(_recipe(machine) for machine in source.machines)
    return ReproduceSection(name="reproduce", title=TITLE, paragraphs=(sentence,), recipes=recipes)


def make_command(record: Record) -> str:
    """Return the shell command that asks for the same run again."""
    request = record.request
    if record.origin == "imported":
        settings = (word for setting in request.settings for word in f"--{setting}".split("=", maxsplit=1))
        return shlex.join(["sdbench", "import", request.manifest_name, *settings])
    words = ["sdbench", "run", request.manifest_name, "--device", request.device]
    words += [word for only in request.only for word in ("--only", only)]
    words += ["--weights", request.weights] if request.weights else []
    words += ["--budget", f"{request.budget_s:g}s"] if request.budget_s else []
    words += [word for setting in request.settings for word in ("--set", setting)]
    return shlex.join(words)


def manifest_text(record: Record) -> str:
    """Return the manifest without what equals a default, as indented JSON, which a YAML reader takes too."""
    return json.dumps(
        record.manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True), indent=2, ensure_ascii=False
    )


def _recipe(machine: Machine) -> Recipe:
    record = machine.record
    manifest = Detail(title=f"Manifest: {record.manifest.title}", text=manifest_text(record))
    return Recipe(machine=machine.name, command=make_command(record), facts=_facts(machine), manifest=manifest)


def _facts(machine: Machine) -> Table:
    record = machine.record
    software = record.fingerprint.software
    imported = record.origin == "imported"
    no_launch = _NOT_RECORDED if imported else "no launch ended"
    launches = [launch for result in record.results for launch in launches_of(result.outcome)]
    experiments = [result.planned.experiment for result in record.results]
    prompts = dict.fromkeys(experiment.prompt for experiment in experiments)
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
        (
            "torch",
            ", ".join(dict.fromkeys(launch.environment.backend_version for launch in launches)) or no_launch,
        ),
        ("Weights", ", ".join(dict.fromkeys(map(_weights_words, experiments)))),
        (
            "Weights digest",
            ", ".join(dict.fromkeys(x.environment.weights_digest for x in launches)) or no_launch,
        ),
        (
            "Seed",
            _NOT_RECORDED if imported else ", ".join(dict.fromkeys(str(experiment.seed) for experiment in experiments)),
        ),
        ("Prompt", " / ".join(prompts)),
    ]
    return make_table(f"What was run on {machine.name}", "What|Value", rows)


def _weights_words(experiment: Experiment) -> str:
    if experiment.weights == "synthetic":
        return f"synthetic, seed {experiment.weights_seed} ({experiment.architecture})"
    return f"pretrained, {experiment.hub_id} at {experiment.revision or 'a revision that was not recorded'}"
