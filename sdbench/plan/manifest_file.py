"""A manifest file into a checked Manifest, with errors that name file, line, column, key, value and nearest name."""

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sdbench.backends import BACKENDS
from sdbench.errors import ManifestError
from sdbench.models.pipeline_folders import shipped_pipelines
from sdbench.schema.base import Model
from sdbench.schema.document import MAX_TEXT_BYTES, Document, parse_yaml
from sdbench.schema.document import Path as DocumentPath
from sdbench.schema.experiment import REVISION_FORM
from sdbench.schema.manifest import MANIFEST_SCHEMA, Manifest
from sdbench.store.files import read_file
from sdbench.workloads import WORKLOADS

# Below this ratio of difflib the nearest name is rarely what was meant.
_NEAREST_CUTOFF = 0.65
# What diffusers and other benchmarks call an option.
_NAMES_ELSEWHERE = {
    "cfg_scale": "guidance_scale",
    "dtype": "precision",
    "iterations": "protocol.calls_max",
    "model_id": "hub_id",
    "num_images_per_prompt": "batch",
    "num_inference_steps": "steps",
    "sampler": "scheduler",
    "torch_dtype": "precision",
}
_IDENTIFIER_FORM = "at most 64 lower-case letters, digits and . _ -, the first a letter or a digit"
_FORMS = {
    "revision": REVISION_FORM,
    "hub_id": "OWNER/NAME",
    "id": _IDENTIFIER_FORM,
    "group": _IDENTIFIER_FORM,
    "pipeline": "a name that sdbench pipelines lists; a path is set by --set pipeline=PATH, and is not portable",
}
# What pydantic's errors expected, by their type.
_EXPECTED = {
    "int_type": "one integer",
    "float_type": "one number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "too_short": "at least one value",
    "string_too_short": "text",
    "string_too_long": "at most {max_length} characters",
    "finite_number": "a finite number",
    "multiple_of": "a multiple of {multiple_of}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
_VALUE_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class LoadedManifest:
    """A manifest, the document it came from (for messages), its text and the SHA-256 of its bytes."""

    manifest: Manifest
    document: Document
    text: str
    sha256: str


def load_manifest(path: Path) -> LoadedManifest:
    """Return the checked manifest in the file at ``path``.

    Raises:
        UserError: the file cannot be read.
        ManifestError: its content is not a manifest of this version.
    """
    content = read_file(path, MAX_TEXT_BYTES)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ManifestError(f"{path}:1:1: this is a binary file, not UTF-8 text; name a YAML manifest") from None
    return load_manifest_text(text, str(path))


def load_manifest_text(text: str, name: str) -> LoadedManifest:
    """Return the checked manifest in ``text``; ``name`` stands for its file in messages.

    Raises:
        ManifestError: it is not a manifest of this version.
    """
    document = parse_yaml(text, name)
    return LoadedManifest(check_manifest(document), document, text, hashlib.sha256(text.encode()).hexdigest())


def make_tables() -> dict[str, Collection[str]]:
    """Return the names of what is registered by tables, which the schema does not know, by option."""
    return {"workload": WORKLOADS, "backend": BACKENDS, "pipeline": shipped_pipelines()}


def check_manifest(document: Document) -> Manifest:
    """Return the manifest that a document describes.

    Raises:
        ManifestError: everything that is wrong with it.
    """
    if not isinstance(document.value, dict):
        problem = f"a manifest is a mapping, this is {show(document.value)}; start with 'schema: {MANIFEST_SCHEMA}'"
        raise ManifestError(locate(document, (), problem))
    _check_version(document)
    try:
        manifest = Manifest.model_validate_json(json.dumps(document.value), context=make_tables())
    except ValidationError as error:
        raise ManifestError(*_explain(document, error)) from None
    if problems := tuple(_find_repetitions(document, manifest)):
        raise ManifestError(*problems)
    return manifest


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``nearest: 'x'`` for the most similar known word, or the list of all when none is similar."""
    words = sorted(known)
    if elsewhere := _NAMES_ELSEWHERE.get(word):
        last = elsewhere.rpartition(".")[2]
        return f"nearest: {last if last in words else elsewhere!r}"
    similar = difflib.get_close_matches(word, words, n=1, cutoff=_NEAREST_CUTOFF)
    return f"nearest: {similar[0]!r}" if similar else "known: " + ", ".join(words)


def locate(document: Document, path: DocumentPath, problem: str) -> str:
    """Return a problem with the file, line and column of the part of the document that it is about."""
    return f"{document.locate(path)[1]}: {problem}"


def describe_problem(detail: ErrorDetails, model: type[Model] = Manifest) -> str:
    """Return in words what is wrong with a value or key of a ``model``, and what to write."""
    path, kind = detail["loc"], detail["type"]
    keys = [part for part in path if isinstance(part, str)]
    key = keys[-1] if keys else ""
    if kind == "extra_forbidden":
        names = _names_at(path[:-1], model)
        return f"unknown {'option' if 'precision' in names else 'key'} {key!r}; {nearest(key, names)}"
    if kind == "missing":
        above = path[-2] if len(path) > 1 else "the manifest"
        return f"the key {key!r} is missing in {above if isinstance(above, str) else keys[-2]}; add it"
    if key in ("bool", "int", "float", "str"):  # one for each type that a key of a config may have
        return f"{keys[-2]} is {show(detail['input'])}: expected a number, text, true, false or null"
    return f"{key} is {show(detail['input'])}: {_describe_value(detail)}"


def _describe_value(detail: ErrorDetails) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "unknown_name":
        return f"unknown {context['field']}; {nearest(str(value), context['known'])}"
    if kind == "literal_error":
        known = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        known = [word.lower() if word in ("True", "False") else word for word in known]
        similar = difflib.get_close_matches(str(value), known, n=1, cutoff=_NEAREST_CUTOFF)
        expected = ", ".join(known) + "".join(f"; nearest: {word!r}" for word in similar)
    elif kind == "string_pattern_mismatch":
        expected = _FORMS[str(detail["loc"][-1])]
    elif kind in _EXPECTED:
        expected = _EXPECTED[kind].format(**context)
    else:
        return detail["msg"].removeprefix("Value error, ")
    takes_several = isinstance(value, list) and kind in ("int_type", "float_type", "string_type", "literal_error")
    return f"expected {expected}" + "; several values go under matrix" * takes_several


def show(value: Any) -> str:
    """Return a value as it is written in a manifest, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _VALUE_SHOWN_CHARACTERS else text[:_VALUE_SHOWN_CHARACTERS] + "..."


def _check_version(document: Document) -> None:
    schema = document.value.get("schema")
    if schema == MANIFEST_SCHEMA:
        return
    if schema is None:
        problem = f"the key 'schema' is missing; start with 'schema: {MANIFEST_SCHEMA}'"
    elif re.fullmatch(MANIFEST_SCHEMA.rstrip("0123456789") + "[0-9]+", str(schema)):
        problem = f"schema {schema!r} is another version; this sdbench reads {MANIFEST_SCHEMA!r}"
    else:
        problem = f"schema is {show(schema)}; write {MANIFEST_SCHEMA!r}"
    raise ManifestError(locate(document, ("schema",), problem))


def _explain(document: Document, error: ValidationError) -> list[str]:
    details = error.errors(include_url=False)
    places = [detail["loc"] for detail in details]
    lines: dict[str, tuple[int, int]] = {}
    for detail in details:
        path = detail["loc"]
        # A list counts as empty when none of its items is valid.
        if detail["type"] == "too_short" and any(place[: len(path)] == path != place for place in places):
            continue
        written, _ = document.locate(path)
        lines.setdefault(locate(document, path, describe_problem(detail)), document.marks.get(written, (1, 1)))
    return sorted(lines, key=lambda line: lines[line])


def _names_at(path: tuple[int | str, ...], model: type[Model]) -> list[str]:
    for part in path:
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = next(_models_in(fields[part].annotation))
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _find_repetitions(document: Document, manifest: Manifest) -> Iterator[str]:
    """Yield what no single value shows: ids used twice, and a matrix without keys."""
    for key, items in (("experiments", manifest.experiments), ("claims", manifest.claims)):
        ids = [item.id for item in items]
        for index, name in enumerate(ids):
            if name in ids[:index]:
                yield locate(document, (key, index, "id"), f"id {name!r} is used twice; give each its own")
    for index, written in enumerate(document.value["experiments"]):
        if "matrix" in written and not written["matrix"]:
            problem = "the matrix is empty; give it keys with lists of values, or remove it"
            yield locate(document, ("experiments", index, "matrix"), problem)
