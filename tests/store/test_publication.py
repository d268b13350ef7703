"""Nothing leaves that is not listed: secrets planted in every field and variable."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from sdbench.errors import UserError
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import load_manifest_text
from sdbench.schema.base import Known, Model
from sdbench.schema.fingerprint import EnvironmentVariable, seal_fingerprint
from sdbench.schema.outcome import AnyOutcome
from sdbench.schema.record import Record, compute_seal
from sdbench.store.archive import pack, unpack
from sdbench.store.exporting import EXPORT_NAME, export_bundle
from sdbench.store.publication import NOT_PUBLISHED, export_record, published_fields
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


def all_models(annotation: Any, seen: set[type[Model]]) -> set[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model) and annotation not in seen:
        seen.add(annotation)
        for info in annotation.model_fields.values():
            all_models(info.annotation, seen)
    for argument in get_args(annotation):
        all_models(argument, seen)
    return seen


def field_names() -> set[str]:
    models = all_models(Record, set())
    return {
        f"{model.__name__}.{name}"
        for model in models
        if not model.__name__.startswith("Known")
        for name in model.model_fields
    }


def test_every_field_is_listed_as_leaving_or_staying_and_no_other_is() -> None:
    fields = published_fields()
    assert set(fields.leaving) | fields.staying == field_names()
    assert not set(fields.leaving) & fields.staying


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
    """The JSON that would leave of a record with this content; None if it is no record or may not leave."""
    try:
        record = Record.model_validate_json(json.dumps(content | {"seal": compute_seal(content)}))
        return json.dumps(export_record(record, ENVIRON).content, ensure_ascii=False)
    except ValueError:
        # A pattern or a list of words keeps the field from holding any such text.
        return None
    except UserError:
        return None


def test_secret_in_any_field_does_not_leave() -> None:
    places = 0
    for path, content in plant(small_record().to_json_dict(), " ".join(SECRETS)):
        text = exported_text(content)
        places += text is not None
        # Any variable's value may be an ordinary word of names of hardware and packages; of sentences it is taken out.
        ordinary = () if is_sentence(path) else (ENVIRON["PLAIN_VARIABLE"],)
        assert not [secret for secret in SECRETS if text and secret in text and secret not in ordinary], path
    assert places > 50


def is_sentence(path: str) -> bool:
    name = path.rpartition(".")[2].removesuffix("[]")
    kinds = {kind for field, kind in published_fields().leaving.items() if field.endswith(f".{name}")}
    return kinds == {"text"}


def test_what_is_not_listed_does_not_leave_whatever_it_holds() -> None:
    stays = {field.rpartition(".")[2] for field in published_fields().staying}
    reached = set()
    for path, content in plant(small_record().to_json_dict(), CANARY):
        name = path.rpartition(".")[2]
        text = exported_text(content)
        if text is not None and CANARY not in text:
            reached.add(name)
    # What else does not leave is a hash that is made anew.
    assert reached - {"hardware_sha256", "configuration_sha256", "software_sha256", "seal"} == stays


def test_variable_that_is_not_listed_leaves_its_name_only() -> None:
    record = make_record()
    variables = (
        EnvironmentVariable(name="OMP_NUM_THREADS", value="2"),
        EnvironmentVariable(name="ORT_HIDDEN", value=CANARY),
    )
    parts = record.fingerprint
    software = parts.software.model_copy(
        update={"environment": Known[tuple[EnvironmentVariable, ...]](value=variables)}
    )
    fingerprint = seal_fingerprint(parts.hardware, parts.configuration, software, parts.state)
    export = export_record(make_record(fingerprint=fingerprint), {})
    left = {item["name"]: item["value"] for item in export.content["fingerprint"]["software"]["environment"]["value"]}
    assert left == {"OMP_NUM_THREADS": "2", "ORT_HIDDEN": NOT_PUBLISHED}
    assert "EnvironmentVariable.value of ORT_HIDDEN" in export.withheld


def test_whole_bundle_holds_no_secret_comment_column_or_journal(tmp_path: Path) -> None:
    record = make_run(tmp_path / "run-1")
    bundle, content = export_bundle(tmp_path / "run-1", ENVIRON)
    assert set(bundle.files) == {"record.json", "manifest.yaml", "telemetry.jsonl", "images/0-0.webp"}
    assert b"who wrote it" not in content
    assert b"of_the_host" not in content
    assert bundle.record.exported is not None
    assert bundle.record.exported.source_seal == record.seal


def test_exported_manifest_asks_for_the_same_experiments(tmp_path: Path) -> None:
    record = make_run(tmp_path / "run-1")
    bundle, _ = export_bundle(tmp_path / "run-1", {})
    loaded = load_manifest_text(bundle.files["manifest.yaml"].decode(), "manifest.yaml")
    asked = {item.experiment_id for item in expand(loaded, parse_settings(()))}
    assert asked == {result.planned.experiment_id for result in record.results}


def test_what_was_shown_is_what_leaves_in_another_environment_too(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    _, shown = export_bundle(tmp_path / "run-1", ENVIRON)
    _, sent = export_bundle(tmp_path / "run-1", {"ANOTHER": "the load average"})
    assert shown == sent == (tmp_path / "run-1" / EXPORT_NAME).read_bytes()


def test_prompt_with_a_secret_is_refused_because_it_identifies_the_experiment(tmp_path: Path) -> None:
    record = make_record()
    content = record.to_json_dict()
    experiment = content["results"][0]["planned"]["experiment"]
    experiment["prompt"] = f"the token {ENVIRON['SOME_TOKEN']}"
    changed = Record.model_validate_json(json.dumps(content))
    with pytest.raises(UserError, match=r"Experiment\.prompt .*\(secret\).*change it"):
        export_record(changed, ENVIRON)


def test_picture_with_metadata_does_not_leave(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1", webp=make_webp(exif=b"Exif\x00\x00made by wilhelmina"))
    with pytest.raises(UserError, match=r"0-0\.webp: holds b'EXIF'"):
        export_bundle(tmp_path / "run-1", {})


def test_published_run_that_was_pulled_leaves_as_it_is(tmp_path: Path) -> None:
    make_run(tmp_path / "run-1")
    _, first = export_bundle(tmp_path / "run-1", {})
    pulled = tmp_path / "pulled"
    (pulled / "images").mkdir(parents=True)
    for name, file in unpack(first, "it").items():
        (pulled / name).write_bytes(file)
    _, again = export_bundle(pulled, ENVIRON)
    assert again == first == pack(unpack(first, "it"))


@pytest.mark.parametrize("password", ["secret", "p@ss", "pa/ss", "a:b@c/d"])
def test_password_in_an_address_does_not_leave(password: str) -> None:
    record = make_record()
    noticed = record.manifest.model_copy(update={"title": f"see https://ann:{password}@example.org/x today"})
    content = export_record(record.model_copy(update={"manifest": noticed}), {}).content
    assert content["manifest"]["title"] == "see https://example.org/x today"
    asked = record.request.model_copy(update={"only": (f"https://ann:{password}@example.org/x",)})
    with pytest.raises(UserError, match="what may not leave"):
        export_record(record.model_copy(update={"request": asked}), {})
