"""Nothing leaves that is not listed: secrets planted in every field and variable."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest

from sdbench.errors import UserError
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import load_manifest_text
from sdbench.publish.archive import pack, unpack
from sdbench.publish.bundle import EXPORT_NAME, export_bundle
from sdbench.publish.filter import FIELD_LIST, NOT_PUBLISHED, export_record, field_path, published_fields
from sdbench.schema.base import Known, Model
from sdbench.schema.fingerprint import EnvironmentVariable, seal_fingerprint
from sdbench.schema.outcome import AnyOutcome
from sdbench.schema.record import Record
from sdbench.store.bundle import encode_record, load_record, seal_record
from tests.records import (
    make_failed,
    make_out_of_memory,
    make_record,
    make_result,
    make_skipped,
    make_succeeded,
    make_timed_out,
)
from tests.runs import make_run, make_webp

CANARY = "xyzzy-canary-77"
ENVIRON = {
    "SOME_TOKEN": "sesame-open-now",
    "PLAIN_VARIABLE": "plugh-plain-value",
    "HOME": "/srv/homes/wilhelmina",
    "USER": "wilhelmina",
    "HOSTNAME": "bletchley-07",
}
SECRETS = (*ENVIRON.values(), "hf_abcdefghijkl", "52:54:00:ab:cd:ef", "GPU-5f1d3e9a-1111")


def all_models(annotation: Any, visited: set[type[Model]]) -> set[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model) and annotation not in visited:
        visited.add(annotation)
        for info in annotation.model_fields.values():
            all_models(info.annotation, visited)
    for argument in get_args(annotation):
        all_models(argument, visited)
    return visited


def field_names() -> set[str]:
    listed = {field_path(model, name) for model in all_models(Record, set()) for name in model.model_fields}
    return listed | {"Unknown.reason"}


def private_fields() -> set[str]:
    """The fields that the list names after a dash."""
    lines = (files("sdbench.publish") / FIELD_LIST).read_text().splitlines()
    parts = [line.partition(" - ") for line in lines if not line.startswith("#")]
    return {f"{before.split()[0]}.{name}" for before, _, after in parts for name in after.split()}


def test_every_field_is_listed_as_published_or_private_and_no_other_is() -> None:
    fields = published_fields()
    assert set(fields.kinds) | private_fields() == field_names()
    assert not set(fields.kinds) & private_fields()


def plant(value: Any, text: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every place of a text in JSON, and the JSON with ``text`` there; of a list's items those that differ."""
    if isinstance(value, str):
        yield path, f"{value} {text}"
    elif isinstance(value, list):
        for index, item in enumerate(value if path == ".results" else value[:1]):
            for place, changed in plant(item, text, f"{path}[]"):
                yield place, [*value[:index], changed, *value[index + 1 :]]
    elif isinstance(value, dict):
        for key, item in value.items():
            for place, changed in plant(item, text, f"{path}.{key}"):
                yield place, value | {key: changed}


def small_record() -> Record:
    """A record with every kind of outcome, as small as it can be: it is exported hundreds of times."""
    outcomes: tuple[AnyOutcome, ...] = (
        make_succeeded(launch_count=1),
        make_out_of_memory(),
        make_failed(),
        make_timed_out(),
        make_skipped(),
    )
    return make_record(results=tuple(make_result(outcome, batch=1 + n) for n, outcome in enumerate(outcomes)))


def exported_text(content: dict[str, Any]) -> str | None:
    """The JSON that would be published of a record with this content; None if it is not a record or is refused."""
    try:
        record = Record.model_validate_json(encode_record(content))
        return json.dumps(export_record(record, ENVIRON), ensure_ascii=False)
    except ValueError:
        # A pattern or a list of words keeps the field from holding any such text.
        return None
    except UserError:
        return None


def test_secret_in_any_field_is_not_published() -> None:
    places = 0
    for path, content in plant(small_record().to_json_dict(), " ".join(SECRETS)):
        text = exported_text(content)
        places += text is not None
        # Any variable's value may be an ordinary word of names of hardware and packages; in sentences it is redacted.
        ordinary = () if is_sentence(path) else (ENVIRON["PLAIN_VARIABLE"],)
        assert not [secret for secret in SECRETS if text and secret in text and secret not in ordinary], path
    assert places > 50


def is_sentence(path: str) -> bool:
    name = path.rpartition(".")[2].removesuffix("[]")
    kinds = {kind for field, kind in published_fields().kinds.items() if field.endswith(f".{name}")}
    return kinds == {"text"}


def test_field_that_is_not_listed_is_not_published_whatever_it_holds() -> None:
    private = {field.rpartition(".")[2] for field in private_fields()}
    reached = set()
    for path, content in plant(small_record().to_json_dict(), CANARY):
        name = path.rpartition(".")[2]
        text = exported_text(content)
        if text is not None and CANARY not in text:
            reached.add(name)
    # Other fields that are not published are hashes that are computed again.
    assert reached - {"hardware_sha256", "configuration_sha256", "software_sha256", "seal"} == private


def test_only_the_name_of_a_variable_that_is_not_listed_is_published() -> None:
    record = make_record()
    variables = (
        EnvironmentVariable(name="OMP_NUM_THREADS", value="2"),
        EnvironmentVariable(name="ORT_HIDDEN", value=CANARY),
    )
    parts = record.fingerprint
    software = parts.software.model_copy(update={"environment": Known(value=variables)})
    fingerprint = seal_fingerprint(parts.hardware, parts.configuration, software, parts.state)
    export = export_record(make_record(fingerprint=fingerprint), {})
    published = {item["name"]: item["value"] for item in export["fingerprint"]["software"]["environment"]["value"]}
    assert published == {"OMP_NUM_THREADS": "2", "ORT_HIDDEN": NOT_PUBLISHED}
    assert "EnvironmentVariable.value of ORT_HIDDEN" in export["publication"]["redacted"]


def test_bundle_has_no_secret_comment_column_or_journal(tmp_path: Path) -> None:
    record = make_run(tmp_path / "run-1")
    bundle = export_bundle(tmp_path / "run-1", ENVIRON)
    assert set(bundle.files) == {"record.json", "manifest.yaml", "telemetry.jsonl", "images/0-0.webp"}
    assert b"who wrote it" not in bundle.archive
    assert b"of_the_host" not in bundle.archive
    assert bundle.record.publication is not None
    assert bundle.record.publication.source_seal == record.seal


def test_trace_is_not_published(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    trace = tmp_path / "run-1" / "traces" / "0123456789abcdef-0.json.gz"
    trace.parent.mkdir()
    trace.write_bytes(b"a trace")
    content = json.loads((tmp_path / "run-1" / "record.json").read_text())
    seal_record(tmp_path / "run-1", {name: value for name, value in content.items() if name not in ("files", "seal")})
    assert "traces/0123456789abcdef-0.json.gz" in {item.path for item in load_record(tmp_path / "run-1").files}
    bundle = export_bundle(tmp_path / "run-1", ENVIRON)
    assert not [name for name in bundle.files if "trace" in name]
    assert not [item.path for item in bundle.record.files if "trace" in item.path]


def test_exported_manifest_asks_for_the_same_experiments(tmp_path: Path) -> None:
    record = make_run(tmp_path / "run-1")
    bundle = export_bundle(tmp_path / "run-1", {})
    loaded = load_manifest_text(bundle.files["manifest.yaml"].decode(), "manifest.yaml")
    asked = {item.experiment_id for item in expand(loaded, parse_settings(()))}
    assert asked == {result.planned.experiment_id for result in record.results}


def test_what_was_shown_is_published_in_another_environment_too(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    shown = export_bundle(tmp_path / "run-1", ENVIRON)
    sent = export_bundle(tmp_path / "run-1", {"ANOTHER": "the load average"})
    assert shown.archive == sent.archive == (tmp_path / "run-1" / EXPORT_NAME).read_bytes()


def test_prompt_with_a_secret_is_refused_because_it_identifies_the_experiment(tmp_path: Path) -> None:
    record = make_record()
    content = record.to_json_dict()
    experiment = content["results"][0]["planned"]["experiment"]
    experiment["prompt"] = f"the token {ENVIRON['SOME_TOKEN']}"
    changed = Record.model_validate_json(json.dumps(content))
    with pytest.raises(UserError, match=r"Experiment\.prompt .*\(secret\).*change it"):
        export_record(changed, ENVIRON)


def test_picture_with_metadata_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1", webp=make_webp(exif=b"Exif\x00\x00made by wilhelmina"))
    with pytest.raises(UserError, match=r"0-0\.webp: holds b'EXIF'"):
        export_bundle(tmp_path / "run-1", {})


def test_published_run_that_was_pulled_is_published_as_it_is(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    first = export_bundle(tmp_path / "run-1", {}).archive
    pulled = tmp_path / "pulled"
    (pulled / "images").mkdir(parents=True)
    for name, file in unpack(first, "it").items():
        (pulled / name).write_bytes(file)
    again = export_bundle(pulled, ENVIRON).archive
    assert again == first == pack(unpack(first, "it"))


@pytest.mark.parametrize("password", ["secret", "p@ss", "pa/ss", "a:b@c/d"])
def test_password_in_an_address_is_not_published(password: str) -> None:
    record = make_record()
    manifest = record.manifest.model_copy(update={"title": f"see https://ann:{password}@example.org/x today"})
    content = export_record(record.model_copy(update={"manifest": manifest}), {})
    assert content["manifest"]["title"] == "see https://example.org/x today"
    asked = record.request.model_copy(update={"only": (f"https://ann:{password}@example.org/x",)})
    with pytest.raises(UserError, match="holds private text"):
        export_record(record.model_copy(update={"request": asked}), {})
