from pathlib import Path
from typing import Any

import pytest

from sdbench.cli.main import main
from sdbench.plan.claim_coverage import find_unmet_claims
from sdbench.plan.manifest_file import load_manifest
from sdbench.schema.manifest import Claim
from tests.plan.manifests import groups, plan

MANIFESTS = Path(__file__).parents[2] / "manifests"


def make_claim(numerator: dict[str, Any], denominator: dict[str, Any] | None = None) -> Claim:
    claim: dict[str, Any] = {"id": "c", "text": "T", "metric": "latency_s", "expected": {"low": 1}, "source": "S"}
    return Claim.model_validate(claim | {"numerator": numerator, "denominator": denominator})


@pytest.mark.parametrize(
    ("numerator", "denominator", "problem"),
    [
        ({"options": {"steps": 20}}, None, None),
        ({"options": {"steps": 25}}, None, "no experiment has steps=25"),
        ({"options": {"steps": 20}}, {"options": {"scheduler": "euler"}}, "no experiment has scheduler=euler"),
        ({"options": {"steps": 20, "batch": 2}}, None, "no experiment has batch=2 and steps=20"),
        ({"options": {}, "at_steps": 10}, None, None),
        ({"options": {}, "at_steps": 7}, None, "no experiment of workload precision runs 7 steps"),
    ],
    ids=str,
)
def test_claim_that_no_experiment_can_meet_is_named_with_what_is_missing(
    numerator: dict[str, Any], denominator: dict[str, Any] | None, problem: str | None
) -> None:
    planned = plan(groups("matrix: {steps: [10, 20, 30]}", "options: {batch: 2}", "options: {workload: precision}"))
    unmet = find_unmet_claims([make_claim(numerator, denominator)], [item.experiment for item in planned])
    assert unmet == (() if problem is None else (f"claim c: {problem}",))


@pytest.mark.parametrize("name", ["lambda-2022.yaml", "lambda-2022-cpu.yaml"])
def test_shipped_claims_can_all_be_met(name: str) -> None:
    loaded = load_manifest(MANIFESTS / name)
    assert find_unmet_claims(loaded.manifest.claims, [item.experiment for item in plan(loaded)]) == ()


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_validate_and_plan_warn_of_claims_that_cannot_be_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "schema: sdbench/manifest/v1\ntitle: T\nmodel: {pipeline: tiny-sd}\n"
        "experiments: [{id: a, title: A, matrix: {steps: [10, 20]}}]\n"
        "claims: [{id: euler-faster, text: T, metric: latency_s, numerator: {options: {steps: 25}}, "
        "expected: {low: 1}, source: S}]\n"
    )
    assert main([command, str(path)]) == 0
    assert "claim euler-faster: no experiment has steps=25" in capsys.readouterr().err
