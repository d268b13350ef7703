"""The identities of the shipped experiments: a changed default or hash would cut new records off from old ones.

Those in the file are of when the option 'pipeline' was called 'architecture'.
"""

import json
from pathlib import Path

import pytest

from sdbench.plan.manifest_file import load_manifest
from sdbench.schema.base import sha256_of
from sdbench.schema.experiment import ID_DIGITS, Experiment
from tests.plan.manifests import plan

MANIFESTS = Path(__file__).parents[2] / "manifests"
GOLDEN = json.loads(Path(__file__).with_name("experiment_ids.json").read_text())


NAMES_BEFORE = {"tiny-sd": "tiny", "sd-1.4": "sd-v1-4"}


def identify_as_before(experiment: Experiment) -> str:
    options = experiment.model_dump(mode="json", exclude_defaults=True)
    options["architecture"] = NAMES_BEFORE[options.pop("pipeline")]
    return sha256_of(options)[:ID_DIGITS]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_shipped_experiments_keep_their_identities_but_for_the_renamed_option(name: str) -> None:
    planned = [item for item in plan(load_manifest(MANIFESTS / name)) if item.experiment.pipeline in NAMES_BEFORE]
    labels = [item.label.replace(item.experiment.pipeline, NAMES_BEFORE[item.experiment.pipeline]) for item in planned]
    before = [identify_as_before(item.experiment) for item in planned]
    assert dict(zip(labels, before, strict=True)) == GOLDEN[name]
