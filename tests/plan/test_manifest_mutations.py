"""A valid manifest with one value or key changed is valid or refused with a place, and never ends in a traceback."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.errors import ManifestError
from sdbench.plan.claim_coverage import find_unmet_claims
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import load_manifest_text

MESSAGE_LENGTH_MAX = 1000
MANIFEST: dict[str, Any] = {
    "schema": "sdbench/manifest/v1",
    "title": "T",
    "source": {"title": "S", "year": 2022},
    "deviations": ["one"],
    "model": {"pipeline": "tiny-sd", "weights": "synthetic", "hub_id": "a/b", "revision": "0" * 40},
    "protocol": {"calls_min": 1, "budget_s": 60, "confidence": 0.9},
    "defaults": {"guidance_scale": 7, "threads": None, "tf32": "convolutions"},
    "experiments": [
        {
            "id": "a",
            "title": "A",
            "options": {"steps": 2},
            "protocol": {"launches_min": 1},
            "matrix": {"batch": [1, 2], "backend": ["pytorch"], "precision": ["fp32", "fp16"]},
            "include": [{"batch": 3, "workload": "latency"}],
            "exclude": [{"batch": 2, "precision": "fp16"}, {"group": "b"}],
        },
        {"id": "b", "title": "B", "options": {"virtual": {"drift": 0.0}, "seed": 7}},
    ],
    "claims": [
        {
            "id": "c",
            "text": "T",
            "metric": "latency_s",
            "numerator": {"options": {"batch": 1}, "machine": "A100", "at_steps": 3},
            "denominator": {"options": {"batch": 2}, "pick": "largest batch"},
            "expected": {"low": 0.5, "high": 1},
            "machines": ["A100"],
            "applies_to": "cuda",
            "source": "S",
        }
    ],
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**38), 10**38),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    st.sampled_from([[], {}, [1], [[]], {"batch": 1}, {"options": 3}, "fp16", "main", 0, 1, -1, 1e300]),
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def mutate(path: tuple[str | int, ...], value: Any, key: str | None) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(MANIFEST))
    parent: Any = changed
    for part in path[:-1]:
        parent = parent[part]
    if key is not None and isinstance(parent, dict):
        parent[key] = parent.pop(path[-1])
    else:
        parent[path[-1]] = value
    return changed


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(list(places(MANIFEST))), VALUES, st.none() | st.sampled_from(["x", "batch", "group", "options"]))
def test_manifest_with_one_change_is_valid_or_refused_with_its_place(
    path: tuple[str | int, ...], value: Any, key: str | None
) -> None:
    problems: tuple[str, ...] = ()
    try:
        loaded = load_manifest_text(json.dumps(mutate(path, value, key)), "m.yaml")
        planned = expand(loaded, parse_settings(()))
        find_unmet_claims(loaded.manifest.claims, [item.experiment for item in planned])
    except ManifestError as error:
        problems = error.problems
    assert all(problem.startswith("m.yaml:") or "protocols" in problem for problem in problems), problems
    assert all("\n" not in problem and len(problem) < MESSAGE_LENGTH_MAX for problem in problems)


def test_unchanged_manifest_is_valid() -> None:
    loaded = load_manifest_text(json.dumps(MANIFEST), "m.yaml")
    assert expand(loaded, parse_settings(()))
