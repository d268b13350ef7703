"""How to repeat it: the command, the weights, the seed, the manifest and the seal."""

import json
import shlex
from collections.abc import Sequence

from sdbench.report.model import Cell, Detail, Recipe, ReproduceSection, Table
from sdbench.report.points import Machine, Source
from sdbench.report.text import format_count, make_table, reading_cell
from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Record

TITLE = "The same run again"
_NOT_RECORDED = "not recorded by the source"


def build(source: Source) -> ReproduceSection:
    """Return the command of each run, with what it depends on."""
    sentence = (
        "Install the version below, save the manifest under the name in the command (JSON is YAML too), and run it. "
        "The same seed draws the same starting noise on every machine."
    )
    records = [machine.record for machine in source.machines]
    alike: dict[str, list[Machine]] = {}
    for machine in source.machines:
        alike.setdefault(make_command(machine.record, records), []).append(machine)
    recipes = tuple(_recipe(command, machines) for command, machines in alike.items())
    return ReproduceSection(name="reproduce", title=TITLE, paragraphs=(sentence,), recipes=recipes)


def make_command(record: Record, others: Sequence[Record] = ()) -> str:
    """Return the shell command that asks for the same run again; of a session's side, with what the other one set.

    The other side is looked for among ``others``; where it is not there, three dots stand for what it set.
    """
    request = record.request
    own = side_settings(record)
    kept = [setting for setting in request.settings if setting not in own]
    if record.origin == "imported":
        settings = (word for setting in request.settings for word in f"--{setting}".split("=", maxsplit=1))
        return shlex.join(["sdbench", "import", request.manifest_name, *settings])
    command = "ab" if record.session else "run"
    words = ["sdbench", command, request.manifest_name, "--device", request.device]
    words += [word for only in request.only for word in ("--only", only)]
    words += ["--weights", request.weights] if request.weights else []
    words += ["--budget", f"{request.budget_s:g}s"] if request.budget_s else []
    words += [word for setting in kept for word in ("--set", setting)]
    return shlex.join(words) + _sides_words(record, others)


def side_settings(record: Record) -> tuple[str, ...]:
    """Return what a session's side set by itself; nothing for a plain run."""
    settings = record.session.settings if record.session else None
    return settings.value if isinstance(settings, Known) else ()


def _sides_words(record: Record, others: Sequence[Record]) -> str:
    session = record.session
    if session is None:
        return ""
    sides = {
        other.session.side: other
        for other in (record, *others)
        if other.session is not None and other.session.session_id == session.session_id
    }
    words = [
        f"--{side} {shlex.quote(setting)}"
        for side in ("a", "b")
        for setting in (side_settings(sides[side]) if side in sides else ("...",))
    ]
    return " ".join(["", *words, f"--seed {session.seed}"])


def manifest_text(record: Record) -> str:
    """Return the manifest without what equals a default, as indented JSON, which a YAML reader takes too."""
    return json.dumps(
        record.manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True), indent=2, ensure_ascii=False
    )


def _recipe(command: str, machines: Sequence[Machine]) -> Recipe:
    first = machines[0]
    manifests = {manifest_text(machine.record): machine.record.manifest.title for machine in machines}
    others = f" and {format_count(len(machines) - 1, 'more run')}" if len(machines) > 1 else ""
    return Recipe(
        title=first.name + others,
        command=command,
        facts=tuple(map(_facts, machines)),
        manifests=tuple(Detail(title=f"Manifest: {title}", text=text) for text, title in manifests.items()),
    )


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
