"""What of a record is published: only the fields that ``published_fields.txt`` lists."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

from sdbench.errors import UserError
from sdbench.privacy import Redactor, strip_credentials
from sdbench.schema.base import Known, Model, Unknown, sha256_of
from sdbench.schema.fingerprint import EnvironmentVariable
from sdbench.schema.record import Publication, Record
from sdbench.schema.written import Written

NOT_PUBLISHED = "(not published)"
FIELD_LIST = "published_fields.txt"
# A name is one line; the longest that a machine of ours reported, a kernel's version, has 96 characters.
_NAME_LENGTH_MAX = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Kind = Literal["plain", "exact", "text"]
_MARKS: dict[str, Kind] = {"=": "exact", "~": "text"}


@dataclass(frozen=True)
class PublishedFields:
    """How each ``Model.field`` is published, the variables with their values, and the columns of the telemetry."""

    kinds: Mapping[str, Kind]
    variables: frozenset[str]
    columns: frozenset[str]


@cache
def published_fields() -> PublishedFields:
    """Return what ``published_fields.txt`` lists."""
    kinds: dict[str, Kind] = {}
    lists: dict[str, set[str]] = {"VARIABLES": set(), "TELEMETRY": set()}
    text = (files("sdbench.publish") / FIELD_LIST).read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        model, *names = line.split()
        if model in lists:
            lists[model].update(names)
            continue
        published = names[: names.index("-")] if "-" in names else names
        kinds |= {f"{model}.{name.rstrip('=~')}": _MARKS.get(name[-1], "plain") for name in published}
    return PublishedFields(kinds, frozenset(lists["VARIABLES"]), frozenset(lists["TELEMETRY"]))


def export_record(record: Record, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return a record's JSON as it is published, without files and seal, with a list of what was redacted.

    ``environ`` helps to find the names and secrets to redact.

    Raises:
        UserError: an identifier holds private text; the message names the field.
    """
    exporter = _Exporter(published_fields(), *_redactors(frozenset(environ.items())))
    content = exporter.export(record)
    fingerprint = content["fingerprint"]
    for part in ("hardware", "configuration", "software"):
        fingerprint[f"{part}_sha256"] = sha256_of(fingerprint[part])
    publication = Publication(source_seal=record.seal, redacted=tuple(sorted(exporter.redacted)))
    return content | {"publication": publication.to_json_dict()}


@lru_cache(maxsize=2)
def _redactors(environ: frozenset[tuple[str, str]]) -> tuple[Redactor, Redactor]:
    """What redacts names and secrets, and every variable's value too: one pair for hundreds of runs."""
    return Redactor(environ=dict(environ)), Redactor(environ=dict(environ), every_variable=True)


def field_path(model: type[Model], attribute: str) -> str:
    """Return the ``Model.field`` that the list has for a field; an option of a manifest is one of an experiment."""
    written_of = model.of if issubclass(model, Written) else model
    owner = written_of if attribute in written_of.model_fields else model
    return f"{owner.__name__}.{attribute}"


class _Exporter:
    def __init__(self, fields: PublishedFields, names: Redactor, texts: Redactor) -> None:
        self.fields = fields
        self.redacted: set[str] = set()
        # The same words come back in every launch.
        self._redact: dict[Kind, Callable[[str], str]] = {"plain": cache(names.redact), "text": cache(texts.redact)}

    def export(self, model: Model) -> dict[str, Any]:
        """Return the JSON of a model, with a note in place of what is not listed."""
        content: dict[str, Any] = {}
        for attribute, info in type(model).model_fields.items():
            if isinstance(model, Written) and attribute not in model.model_fields_set:
                continue
            value, path = getattr(model, attribute), field_path(type(model), attribute)
            kind = self.fields.kinds.get(path)
            content[info.alias or attribute] = self._keep(value, kind, path) if kind else self._drop(value, path)
        if isinstance(model, EnvironmentVariable) and model.name not in self.fields.variables:
            self.redacted.add(f"EnvironmentVariable.value of {content['name']}")
            content["value"] = NOT_PUBLISHED
        return content

    def _keep(self, value: Any, kind: Kind, path: str) -> Any:
        match value:
            case Known():
                return {"status": "known", "value": self._keep(value.value, kind, path)}
            case Unknown():
                path = "Unknown.reason"
                return {"status": "unknown", "reason": self._keep(value.reason, self.fields.kinds[path], path)}
            case Model():
                return self.export(value)
            case bool() | int() | float() | None:
                return value
            case str():
                kept: Any = self._keep_text(value, kind, path)
            case tuple() | list():
                samples = bool(value) and isinstance(value[0], float)
                kept = list(value) if samples else [self._keep(item, kind, path) for item in value]
            case dict():
                names = (self._keep_text(key, "exact", path) for key in value)
                kept = dict(zip(names, (self._keep(item, kind, path) for item in value.values()), strict=True))
            case _:
                raise TypeError(f"{path} holds a {type(value).__name__}, which cannot be exported")
        return kept

    def _keep_text(self, text: str, kind: Kind, path: str) -> str:
        if kind == "exact":
            without = strip_credentials(self._redact["plain"](text))
            if without != text or _CONTROL.search(text.replace("\n", "")):
                raise UserError(
                    f"{path} is {without[:80]!r}: it holds private text and cannot be redacted, because it identifies "
                    "the run; change it in the manifest and run again"
                )
            return text
        kept = strip_credentials(self._redact[kind](text))
        if kind == "plain":
            kept = _CONTROL.sub(" ", kept)[:_NAME_LENGTH_MAX]
        if kept != text:
            self.redacted.add(path)
        return kept

    def _drop(self, value: Any, path: str) -> Any:
        self.redacted.add(path)
        match value:
            case str():
                return NOT_PUBLISHED
            case Known() | Unknown():
                return {"status": "unknown", "reason": NOT_PUBLISHED}
            case tuple():
                return []
            case _:
                # What must have a value (a number, a model) makes the export invalid: it must be listed.
                return None
