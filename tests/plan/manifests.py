"""Manifests for tests of the plan, written as the lines that matter."""

from collections.abc import Sequence
from typing import Any

from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import LoadedManifest, check_manifest
from sdbench.schema.document import parse_yaml
from sdbench.schema.record import PlannedExperiment

HEAD = """\
schema: sdbench/manifest/v1
title: T
model: {pipeline: tiny-sd}
"""


def load(text: str) -> LoadedManifest:
    """Return the manifest of three head lines and ``text``, which therefore starts on line 4."""
    parsed = parse_yaml(HEAD + text, "m.yaml")
    return LoadedManifest(check_manifest(parsed), parsed, HEAD + text, "0" * 64)


def groups(*written: str) -> LoadedManifest:
    """Return a manifest whose groups, from line 5 on, are a, b, c ... with the given keys in flow style."""
    lines = [f"  - {{id: {name}, title: T, {keys}}}" for name, keys in zip("abcdefgh", written, strict=False)]
    return load("experiments:\n" + "\n".join(lines) + "\n")


def plan(loaded: LoadedManifest, *assignments: str, only: Sequence[str] = ()) -> tuple[PlannedExperiment, ...]:
    return expand(loaded, parse_settings(assignments), only)


def options_of(planned: Sequence[PlannedExperiment], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(item.experiment, name) for name in names) for item in planned]
