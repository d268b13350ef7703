"""The identities of the shipped experiments: a changed default or hash would cut new records off from old ones."""

import json
from pathlib import Path

import pytest

from sdbench.plan.manifest_file import load_manifest
from tests.plan.manifests import plan

MANIFESTS = Path(__file__).parents[2] / "manifests"
GOLDEN = json.loads(Path(__file__).with_name("experiment_ids.json").read_text())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_shipped_experiments_keep_their_identities(name: str) -> None:
    assert {item.label: item.experiment_id for item in plan(load_manifest(MANIFESTS / name))} == GOLDEN[name]
