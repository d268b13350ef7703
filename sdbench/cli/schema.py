"""``sdbench schema``: JSON Schema of the manifest or the record."""

import argparse
import json

from sdbench.cli.output import show
from sdbench.schema.manifest import MANIFEST_SCHEMA, Manifest
from sdbench.schema.record import Record
from sdbench.schema.versions import RECORD_SCHEMA


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("what", choices=("manifest", "record"))


def execute(options: argparse.Namespace) -> int:
    """Print the schema and return 0."""
    show(json.dumps(build_schema(options.what), indent=1))
    return 0


def build_schema(what: str) -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of ``manifest`` or ``record``."""
    model, name = (Manifest, MANIFEST_SCHEMA) if what == "manifest" else (Record, RECORD_SCHEMA)
    schema = model.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"urn:{name.replace('/', ':')}"
    return schema
