"""``sdbench schema``: JSON Schema of the manifest or the record."""

import argparse
import json

from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import MANIFEST_SCHEMA, Manifest
from sdbench.schema.record import Record
from sdbench.schema.versions import RECORD_SCHEMA


def execute(options: argparse.Namespace) -> int:
    """Print the schema and return 0."""
    print(json.dumps(build_schema(options.what), indent=1))
    return 0


def build_schema(what: str) -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of ``manifest`` or ``record``."""
    model, name = (Manifest, MANIFEST_SCHEMA) if what == "manifest" else (Record, RECORD_SCHEMA)
    schema = model.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"urn:{name.replace('/', ':')}"
    if what == "manifest":
        _add_options(schema)
    return schema


def _add_options(schema: dict[str, object]) -> None:
    """Describe experiment options where a manifest writes them as free mappings, so that editors complete them."""
    experiment = Experiment.model_json_schema()
    options = {"type": "object", "additionalProperties": False, "properties": experiment["properties"]}
    axes = {name: {"type": "array", "minItems": 1, "items": value} for name, value in experiment["properties"].items()}
    excluded = {**experiment["properties"], "group": {"type": "string", "description": "leave out what this group has"}}
    definitions = schema["$defs"]
    if not isinstance(definitions, dict):
        raise TypeError("pydantic gave a schema without definitions")
    definitions["Options"] = options
    group = definitions["Group"]["properties"]
    reference = {"$ref": "#/$defs/Options"}
    group["options"] = reference
    group["matrix"] = {"type": "object", "additionalProperties": False, "properties": axes}
    group["include"] = {"type": "array", "items": reference}
    group["exclude"] = {
        "type": "array",
        "items": {"type": "object", "additionalProperties": False, "properties": excluded},
    }
    definitions["Selector"]["properties"]["options"] = reference
    properties = schema["properties"]
    if isinstance(properties, dict):
        properties["defaults"] = reference
