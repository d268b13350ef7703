"""A manifest file into a checked Manifest, with errors that name file, line, column, key, value and nearest name."""

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from sdbench.backends import BACKENDS
from sdbench.errors import ManifestError, UserError
from sdbench.schema import document, manifest
from sdbench.schema.document import MAX_TEXT_BYTES, Document, parse_yaml
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import MANIFEST_SCHEMA, Claim, Group, Manifest
from sdbench.workloads import WORKLOADS

_MODEL_BY_KEY: dict[str, type[BaseModel]] = {
    "source": manifest.Source,
    "model": manifest.ModelChoice,
    "experiments": Group,
    "claims": Claim,
    "numerator": manifest.Selector,
    "denominator": manifest.Selector,
    "expected": manifest.Interval,
}
_TABLES = {"workload": WORKLOADS, "backend": BACKENDS}
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
        ManifestError: its content is no manifest of this version.
    """
    content = read_bytes(path)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ManifestError(f"{path}:1:1: this is a binary file, not UTF-8 text; name a YAML manifest") from None
    return load_manifest_text(text, str(path))


def load_manifest_text(text: str, name: str) -> LoadedManifest:
    """Return the checked manifest in ``text``; ``name`` stands for its file in messages.

    Raises:
        ManifestError: it is no manifest of this version.
    """
    parsed = parse_yaml(text, name)
    return LoadedManifest(check_manifest(parsed), parsed, text, hashlib.sha256(text.encode()).hexdigest())


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file that is small enough to be a manifest.

    Raises:
        UserError: it does not exist, is no file, is not readable or is too large.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a manifest file in it")
        with path.open("rb") as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None
    if len(content) > MAX_TEXT_BYTES:
        raise ManifestError(
            f"{path}:1:1: the file is over {MAX_TEXT_BYTES:,} bytes, too large for a manifest; split it"
        )
    return content


def check_manifest(parsed: Document) -> Manifest:
    """Return the manifest that a document describes.

    Raises:
        ManifestError: the first thing that is wrong with it.
    """
    if not isinstance(parsed.value, dict):
        raise _error(
            parsed,
            (),
            f"a manifest is a mapping, this is {_shown(parsed.value)}; start with 'schema: {MANIFEST_SCHEMA}'",
        )
    _check_version(parsed)
    try:
        checked = Manifest.model_validate_json(json.dumps(parsed.value))
    except ValidationError as error:
        raise _explain(parsed, error.errors()[0], Manifest) from None
    _check_options(parsed, checked)
    return checked


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``nearest: 'x'`` for the most similar known word, or the list of all when none is similar."""
    words = sorted(known)
    similar = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"nearest: {similar[0]!r}" if similar else "known: " + ", ".join(words)


def _check_version(parsed: Document) -> None:
    found = parsed.value.get("schema")
    if found == MANIFEST_SCHEMA:
        return
    if found is None:
        raise _error(parsed, (), f"the key 'schema' is missing; start with 'schema: {MANIFEST_SCHEMA}'")
    prefix = MANIFEST_SCHEMA.rpartition("v")[0]
    text = str(found)
    if text.startswith(prefix + "v") and text.removeprefix(prefix + "v").isdigit():
        raise _error(
            parsed,
            ("schema",),
            f"schema {text!r} is of another version; this sdbench reads {MANIFEST_SCHEMA!r}: "
            "use the sdbench it was written for",
        )
    raise _error(parsed, ("schema",), f"schema is {_shown(found)}; write {MANIFEST_SCHEMA!r}")


def _explain(parsed: Document, detail: ErrorDetails, model: type[BaseModel]) -> ManifestError:
    path = detail["loc"]
    key = str(path[-1]) if path else ""
    if detail["type"] == "extra_forbidden":
        return _error(parsed, path, f"unknown key {key!r}; {nearest(key, _field_names(_model_at(path[:-1], model)))}")
    if detail["type"] == "missing":
        return _error(parsed, path, f"the key {key!r} is missing in {_dotted(path[:-1]) or 'the manifest'}; add it")
    written, _ = parsed.locate(path)
    message = detail["msg"].removeprefix("Value error, ")
    return _error(parsed, path, f"{_dotted(written)} is {_shown(detail['input'])}: {_lower_first(message)}")


def _model_at(path: tuple[int | str, ...], model: type[BaseModel]) -> type[BaseModel]:
    for part in path:
        if part == "protocol":
            model = manifest.ProtocolOverride if model is Group else manifest.Protocol
        elif isinstance(part, str) and part in _MODEL_BY_KEY:
            model = _MODEL_BY_KEY[part]
    return model


def _field_names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _check_options(parsed: Document, checked: Manifest) -> None:
    _check_mapping(parsed, ("defaults",), checked.defaults)
    seen: dict[str, int] = {}
    for index, group in enumerate(checked.experiments):
        here: document.Path = ("experiments", index)
        if group.id in seen:
            raise _error(parsed, (*here, "id"), f"id {group.id!r} is used twice; give each group its own")
        seen[group.id] = index
        _check_mapping(parsed, (*here, "options"), group.options)
        for position, entry in enumerate(group.include):
            _check_mapping(parsed, (*here, "include", position), entry)
        for position, entry in enumerate(group.exclude):
            _check_mapping(
                parsed, (*here, "exclude", position), {k: v for k, v in entry.items() if k != "group"}, also=("group",)
            )
        for key, values in group.matrix.items():
            _check_mapping(parsed, (*here, "matrix"), {key: None}, names_only=True)
            if not values:
                raise _error(
                    parsed,
                    (*here, "matrix", key),
                    f"matrix key {key!r} has no values; list at least one or remove the key",
                )
            for position, value in enumerate(values):
                check_option(key, value, parsed, (*here, "matrix", key, position))
        written = parsed.value["experiments"][index]
        if "matrix" in written and not written["matrix"]:
            raise _error(
                parsed, (*here, "matrix"), "the matrix is empty; give it keys with lists of values, or remove it"
            )
    for index, claim in enumerate(checked.claims):
        for side in ("numerator", "denominator"):
            selector = getattr(claim, side)
            if selector is not None:
                _check_mapping(parsed, ("claims", index, side, "options"), selector.options)


def _check_mapping(
    parsed: Document,
    path: document.Path,
    options: dict[str, Any],
    *,
    also: tuple[str, ...] = (),
    names_only: bool = False,
) -> None:
    for key, value in options.items():
        if key not in Experiment.model_fields:
            raise _error(
                parsed, (*path, key), f"unknown option {key!r}; {nearest(key, [*Experiment.model_fields, *also])}"
            )
        if not names_only:
            check_option(key, value, parsed, (*path, key))


def check_option(key: str, value: Any, parsed: Document, path: document.Path) -> None:
    """Check one option's value.

    Raises:
        ManifestError: the value is of the wrong type, out of range or an unknown name.
    """
    problem = option_problem(key, value)
    if problem is not None:
        raise _error(parsed, path, f"{key} is {_shown(value)}: {problem}")


def option_problem(key: str, value: Any) -> str | None:
    """Return what is wrong with ``value`` for the experiment option ``key``, or None."""
    if key in _TABLES and isinstance(value, str):
        return None if value in _TABLES[key] else f"unknown {key}; {nearest(value, _TABLES[key])}"
    try:
        _adapter_of(key).validate_python(value, strict=not (isinstance(value, int) and not isinstance(value, bool)))
    except ValidationError as error:
        detail = error.errors()[0]
        expected = detail.get("ctx", {}).get("expected")
        if detail["type"] == "literal_error" and isinstance(value, str) and expected:
            known = [word.strip(" '") for word in str(expected).replace(" or ", ",").split(",")]
            return f"unknown value; {nearest(value, known)} ({', '.join(known)})"
        return _lower_first(detail["msg"])
    return None


@cache
def _adapter_of(key: str) -> TypeAdapter[Any]:
    """Return the check of one option's value; building it costs 0.3 ms, which 10,000 values would pay each."""
    field = Experiment.model_fields[key]
    annotation: Any = field.annotation
    for item in field.metadata:
        annotation = Annotated[annotation, item]
    return TypeAdapter(annotation)


def _error(parsed: Document, path: tuple[int | str, ...], problem: str) -> ManifestError:
    _, where = parsed.locate(path)
    return ManifestError(f"{where}: {problem}")


def _dotted(path: tuple[int | str, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _VALUE_SHOWN_CHARACTERS else text[:_VALUE_SHOWN_CHARACTERS] + "..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
