"""What of a record may leave the machine: only the fields that ``published_fields.txt`` lists."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

from sdbench.errors import UserError
from sdbench.probes.privacy import Redactor, strip_credentials
from sdbench.schema.base import Known, Model, sha256_of
from sdbench.schema.fingerprint import EnvironmentVariable
from sdbench.schema.record import Exported, Record

NOT_PUBLISHED = "(not published)"
FIELD_LIST = "published_fields.txt"
# A name is one line; the longest that a machine of ours reported, a kernel's version, has 96 characters.
_NAME_LENGTH_MAX = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Kind = Literal["plain", "exact", "text"]
_MARKS: dict[str, Kind] = {"=": "exact", "~": "text"}


@dataclass(frozen=True)
class PublishedFields:
    """Which fields leave and how, by ``Model.field``; and which were looked at and stay.

    Of ``variables`` the values leave too, and of the telemetry these ``columns``.
    """

    leaving: Mapping[str, Kind]
    staying: frozenset[str]
    variables: frozenset[str]
    columns: frozenset[str]


@dataclass(frozen=True)
class Export:
    """A record's JSON as it may leave, still without files and seal, and what was withheld or redacted in it."""

    content: dict[str, Any]
    withheld: tuple[str, ...]


@cache
def published_fields() -> PublishedFields:
    """Return what ``published_fields.txt`` lists."""
    leaving: dict[str, Kind] = {}
    staying: set[str] = set()
    lists: dict[str, set[str]] = {"VARIABLES": set(), "TELEMETRY": set()}
    text = (files("sdbench.store") / FIELD_LIST).read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        model, *names = line.split()
        if model in lists:
            lists[model].update(names)
            continue
        leaves = names[: names.index("-")] if "-" in names else names
        leaving |= {f"{model}.{name.rstrip('=~')}": _MARKS.get(name[-1], "plain") for name in leaves}
        staying |= {f"{model}.{name}" for name in names[len(leaves) + 1 :]}
    return PublishedFields(leaving, frozenset(staying), frozenset(lists["VARIABLES"]), frozenset(lists["TELEMETRY"]))


def export_record(record: Record, environ: Mapping[str, str], fields: PublishedFields | None = None) -> Export:
    """Return what of a record may leave this machine, whose names and secrets ``environ`` helps to find.

    Raises:
        UserError: an identifier holds what may not leave; the message names the field.
    """
    exporter = _Exporter(fields or published_fields(), *_redactors(frozenset(environ.items())))
    content = exporter.export(record)
    fingerprint = content["fingerprint"]
    for part in ("hardware", "configuration", "software"):
        fingerprint[f"{part}_sha256"] = sha256_of(fingerprint[part])
    withheld = tuple(sorted(exporter.withheld))
    content["exported"] = Exported(source_seal=record.seal, withheld=withheld).to_json_dict()
    return Export(content, withheld)


@lru_cache(maxsize=2)
def _redactors(environ: frozenset[tuple[str, str]]) -> tuple[Redactor, Redactor]:
    """What takes out names and secrets, and every variable's value too: hundreds of runs leave in one environment."""
    return Redactor(environ=dict(environ)), Redactor.of_everything(dict(environ))


class _Exporter:
    """Walks a record's models and keeps what the list names."""

    def __init__(self, fields: PublishedFields, names: Redactor, texts: Redactor) -> None:
        self.fields = fields
        self.withheld: set[str] = set()
        # The same words come back in every launch.
        self._redact: dict[Kind, Callable[[str], str]] = {"plain": cache(names.redact), "text": cache(texts.redact)}

    def export(self, model: Model) -> dict[str, Any]:
        """Return the JSON of a model, with what is not listed replaced by what says so."""
        content: dict[str, Any] = {}
        for attribute, info in type(model).model_fields.items():
            value, path = getattr(model, attribute), f"{type(model).__name__}.{attribute}"
            kind = self.fields.leaving.get(path)
            key = info.alias or attribute
            if kind is None:
                content[key] = self._withhold(value, path)
            else:
                content[key] = self._keep(value, kind, path)
        if isinstance(model, EnvironmentVariable) and model.name not in self.fields.variables:
            self.withheld.add(f"EnvironmentVariable.value of {content['name']}")
            content["value"] = NOT_PUBLISHED
        return content

    def _keep(self, value: Any, kind: Kind, path: str) -> Any:
        match value:
            case Known():
                return {"status": "known", "value": self._keep(value.value, kind, path)}
            case Model():
                return self.export(value)
            case bool() | int() | float() | None:
                return value
            case str():
                kept: Any = self._keep_text(value, kind, path)
            case tuple():
                samples = bool(value) and isinstance(value[0], float)
                kept = list(value) if samples else [self._keep(item, kind, path) for item in value]
            case dict():
                kept = {
                    self._keep_text(key, "exact", path): self._keep(item, kind, path) for key, item in value.items()
                }
            case _:
                msg = f"{path} holds a {type(value).__name__}, which cannot be exported"
                raise TypeError(msg)
        return kept

    def _keep_text(self, text: str, kind: Kind, path: str) -> str:
        if kind == "exact":
            without = strip_credentials(self._redact["plain"](text))
            if without != text or _CONTROL.search(text.replace("\n", "")):
                raise UserError(
                    f"{path} is {without[:80]!r}: it holds what may not leave this machine, and identifies "
                    "the run; change it in the manifest and run again"
                )
            return text
        kept = strip_credentials(self._redact[kind](text))
        if kind == "plain":
            kept = _CONTROL.sub(" ", kept)[:_NAME_LENGTH_MAX]
        if kept != text:
            self.withheld.add(path)
        return kept

    def _withhold(self, value: Any, path: str) -> Any:
        self.withheld.add(path)
        match value:
            case str():
                return NOT_PUBLISHED
            case Model() if "status" in type(value).model_fields:
                return {"status": "unknown", "reason": NOT_PUBLISHED}
            case tuple():
                return []
            case _:
                # What must have a value (a number, a model) makes the export invalid: it is listed, or nothing leaves.
                return None
