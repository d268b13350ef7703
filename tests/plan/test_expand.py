from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.errors import ManifestError, UserError
from sdbench.plan import expand as expand_module
from sdbench.plan.expand import parse_settings
from tests.plan.manifests import groups, load, options_of, plan

AXES: dict[str, list[Any]] = {
    "batch": [1, 2, 4, 8],
    "precision": ["fp32", "fp16", "bf16"],
    "steps": [1, 2, 3],
    "seed": [0, 1],
}


def test_matrix_gives_every_combination_in_the_order_written() -> None:
    planned = plan(groups("matrix: {precision: [fp16, fp32], batch: [1, 2]}"))
    assert options_of(planned, "precision", "batch") == [("fp16", 1), ("fp16", 2), ("fp32", 1), ("fp32", 2)]
    assert [item.groups for item in planned] == [("a",)] * 4


def test_group_without_matrix_is_one_experiment() -> None:
    assert options_of(plan(groups("options: {batch: 3}")), "batch", "steps") == [(3, 50)]


def test_nearer_options_win_over_farther_ones() -> None:
    loaded = load(
        "defaults: {batch: 2, steps: 2, seed: 2}\n"
        "experiments: [{id: a, title: T, options: {steps: 3, seed: 3}, matrix: {seed: [4]}}]\n"
    )
    assert options_of(plan(loaded), "batch", "steps", "seed") == [(2, 3, 4)]
    assert options_of(plan(loaded, "seed=5", "batch=5"), "batch", "steps", "seed") == [(5, 3, 5)]


def test_exclude_takes_out_what_matches_all_of_its_options() -> None:
    planned = plan(groups("matrix: {precision: [fp16, fp32], batch: [1, 2]}, exclude: [{precision: fp16, batch: 2}]"))
    assert options_of(planned, "precision", "batch") == [("fp16", 1), ("fp32", 1), ("fp32", 2)]


def test_exclude_matches_options_that_the_matrix_does_not_name() -> None:
    with pytest.raises(ManifestError, match="expands to nothing"):
        plan(groups("matrix: {batch: [1, 2]}, exclude: [{precision: fp32}]"))


def test_exclude_of_a_value_of_the_wrong_type_is_refused_and_not_merely_without_effect() -> None:
    with pytest.raises(ManifestError, match="seed is false: "):
        plan(groups("matrix: {seed: [0, 1]}, exclude: [{seed: false}]"))


def test_include_adds_to_the_matrix_and_is_not_excluded() -> None:
    planned = plan(
        groups("matrix: {batch: [1, 2]}, include: [{batch: 8, steps: 3}], exclude: [{batch: 1}, {batch: 8}]")
    )
    assert options_of(planned, "batch", "steps") == [(2, 50), (8, 3)]


def test_include_without_matrix_is_the_whole_group() -> None:
    assert options_of(plan(groups("include: [{batch: 8}, {batch: 9}]")), "batch") == [(8,), (9,)]


def test_exclude_of_a_group_takes_out_its_experiments() -> None:
    loaded = groups("matrix: {batch: [1, 2, 3]}, exclude: [{group: b}]", "options: {batch: 2}")
    assert options_of(plan(loaded), "batch") == [(1,), (3,), (2,)]


def test_exclude_of_an_unknown_group_names_the_nearest() -> None:
    text = "experiments:\n  - {id: batch, title: T}\n  - id: b\n    title: T\n    exclude: [{group: bacth}]\n"
    with pytest.raises(ManifestError, match=r"m\.yaml:8:16: unknown group 'bacth'; nearest: 'batch'"):
        plan(load(text))


def test_exclude_of_a_group_stands_alone() -> None:
    with pytest.raises(ManifestError, match="an exclude with 'group' has no other keys; write two entries"):
        plan(groups("exclude: [{group: b, batch: 1}]", "options: {batch: 2}"))


@pytest.mark.parametrize(
    ("written", "cycle"),
    [
        (["exclude: [{group: a}]"], "a excludes a"),
        (["exclude: [{group: b}]", "exclude: [{group: a}]"], "a excludes b excludes a"),
        (["options: {}", "exclude: [{group: c}]", "exclude: [{group: b}]"], "b excludes c excludes b"),
        (
            ["exclude: [{group: b}]", "exclude: [{group: c}, {group: d}]", "options: {}", "exclude: [{group: a}]"],
            "a excludes b excludes d excludes a",
        ),
    ],
)
def test_cycle_of_excludes_is_refused_with_its_members(written: list[str], cycle: str) -> None:
    with pytest.raises(ManifestError, match=f"a cycle of excludes: {cycle}; remove one of them"):
        plan(groups(*written))


def test_excludes_that_share_a_target_are_no_cycle() -> None:
    loaded = groups(
        "matrix: {batch: [1, 2, 3]}, exclude: [{group: b}, {group: c}]",
        "matrix: {batch: [2, 3]}, exclude: [{group: c}]",
        "options: {batch: 3}",
    )
    # Group a loses what b measures anyway, also where b leaves it to c.
    assert options_of(plan(loaded), "batch") == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    "keys",
    ["matrix: {batch: [1, 2]}, exclude: [{batch: 1}, {batch: 2}]", "matrix: {batch: [1]}, exclude: [{group: b}]"],
)
def test_group_that_expands_to_nothing_is_refused(keys: str) -> None:
    with pytest.raises(ManifestError, match=r"m\.yaml:5:5: group 'a' expands to nothing"):
        plan(groups(keys, "options: {batch: 1}"))


def test_groups_with_different_protocols_for_one_experiment_are_refused_at_the_later_one() -> None:
    with pytest.raises(ManifestError, match=r"m\.yaml:6:5: groups 'a' and 'b' both have .*different protocols"):
        plan(groups("options: {batch: 1}", "protocol: {calls_min: 7}"))


def test_more_than_10000_experiments_are_refused_before_any_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_nothing(*_: Any) -> Any:
        raise AssertionError("an experiment was built")

    monkeypatch.setattr(expand_module, "_experiment", build_nothing)
    hundred = list(range(1, 101))
    keys = f"matrix: {{seed: {hundred}, steps: {hundred}}}"
    with pytest.raises(ManifestError, match="10,001 experiments, over the limit of 10,000; split the manifest"):
        plan(groups(keys + ", include: [{batch: 2}]"))
    with pytest.raises(ManifestError, match=r"m\.yaml:6:5: up to here 10,001 experiments"):
        plan(groups(keys, "options: {batch: 2}"))
    with pytest.raises(AssertionError, match="was built"):
        plan(groups(keys))


def test_product_too_large_for_memory_is_refused_at_once() -> None:
    hundred = list(range(1, 101))
    keys = (
        f"matrix: {{seed: {hundred}, steps: {hundred}, batch: {hundred}, threads: {hundred}, weights_seed: {hundred}}}"
    )
    with pytest.raises(ManifestError, match="10,000,000,000 experiments"):
        plan(groups(keys))


def test_experiment_of_two_groups_is_measured_once_under_both_names() -> None:
    planned = plan(groups("matrix: {batch: [1, 2]}", "matrix: {batch: [2, 3], precision: [fp32]}"))
    assert options_of(planned, "batch") == [(1,), (2,), (3,)]
    assert [item.groups for item in planned] == [("a",), ("a", "b"), ("b",)]


def test_options_that_contradict_are_refused_at_their_group() -> None:
    with pytest.raises(ManifestError, match=r"m\.yaml:5:5: weights: pretrained needs model\.hub_id"):
        plan(groups("options: {weights: pretrained}"))


def test_missing_pipeline_is_refused_at_the_group_that_lacks_it() -> None:
    loaded = load("experiments: [{id: a, title: T}]\n")
    bare = type(loaded.manifest).model_validate({**loaded.manifest.to_json_dict(), "model": {}}, strict=False)
    with pytest.raises(ManifestError, match=r"m\.yaml:4:15: 'pipeline' is missing; set it under model"):
        plan(type(loaded)(bare, loaded.document, loaded.text, loaded.sha256))


def test_protocol_of_a_group_wins_and_the_command_line_over_both() -> None:
    loaded = load(
        "protocol: {calls_min: 4, launches_min: 5}\n"
        "experiments: [{id: a, title: T, protocol: {calls_min: 6}}, {id: b, title: T, options: {batch: 2}}]\n"
    )
    assert [(item.protocol.calls_min, item.protocol.launches_min) for item in plan(loaded)] == [(6, 5), (4, 5)]
    assert [item.protocol.calls_min for item in plan(loaded, "protocol.calls_min=7")] == [7, 7]


def test_least_above_most_is_refused() -> None:
    with pytest.raises(ManifestError, match="protocol calls_min 9 is above calls_max 3"):
        plan(groups("protocol: {calls_min: 9, calls_max: 3}"))


def test_setting_replaces_an_axis() -> None:
    planned = plan(groups("matrix: {batch: [1, 2], precision: [fp32, fp16]}"), "batch=4")
    assert options_of(planned, "batch", "precision") == [(4, "fp32"), (4, "fp16")]


def test_setting_that_replaces_an_axis_takes_its_length_out_of_the_count() -> None:
    loaded = groups(f"matrix: {{seed: {list(range(5_001))}, batch: [1, 2]}}")
    with pytest.raises(ManifestError, match="10,002 experiments"):
        plan(loaded)
    assert options_of(plan(loaded, "seed=7"), "seed", "batch") == [(7, 1), (7, 2)]


def test_settings_are_read_as_yaml() -> None:
    settings_read = parse_settings(["guidance_scale=1e-3", "tf32=true", "prompt=a b", "protocol.calls_min=3"])
    assert settings_read.options == {"guidance_scale": 1e-3, "tf32": True, "prompt": "a b"}
    assert settings_read.protocol == {"calls_min": 3}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("stpes=3", "unknown option 'stpes'; nearest: 'steps'"),
        ("steps=many", "expected one integer"),
        ("steps=0", "expected at least 1"),
        ("protocol.calls=3", "unknown key 'calls'; nearest: 'calls_m"),
        ("protocol=null", "protocol is null: expected a mapping"),
        ("prompt=[", "invalid YAML"),
    ],
)
def test_invalid_setting_is_refused_with_what_is_expected(assignment: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_settings([assignment])
    assert words in str(caught.value)


def test_wrong_protocol_setting_is_refused_with_its_value() -> None:
    with pytest.raises(UserError, match="calls_min is 0: expected at least 1"):
        plan(groups("options: {}"), "protocol.calls_min=0")


def test_only_keeps_groups_and_experiments_by_prefix_in_the_order_of_the_manifest() -> None:
    loaded = groups("matrix: {batch: [1, 2]}", "options: {batch: 3}")
    everything = plan(loaded)
    assert options_of(plan(loaded, only=["b"]), "batch") == [(3,)]
    assert options_of(plan(loaded, only=[everything[1].experiment_id[:6]]), "batch") == [(2,)]
    assert plan(loaded, only=["b", everything[0].experiment_id]) == (everything[0], everything[2])


@pytest.mark.parametrize("wanted", ["bb", "", "0123456789abcdef"])
def test_only_that_matches_nothing_is_refused(wanted: str) -> None:
    with pytest.raises(UserError, match="matches no group and no experiment"):
        plan(groups("options: {}"), only=[wanted])


def test_prefix_too_short_to_be_meant_names_nothing() -> None:
    loaded = groups("options: {}")
    (only_one,) = plan(loaded)
    with pytest.raises(UserError, match="matches no group and no experiment"):
        plan(loaded, only=[only_one.experiment_id[:3]])


MATRICES = st.lists(st.sampled_from(sorted(AXES)), min_size=1, unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.lists(st.sampled_from(AXES[name]), min_size=1, unique=True) for name in names}
    )
)


@settings(deadline=None, max_examples=40)
@given(MATRICES, st.data())
def test_count_is_the_product_of_the_axes_less_what_is_excluded(
    matrix: dict[str, list[Any]], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(matrix)))
    excluded = data.draw(st.sampled_from(matrix[name]))
    total = prod(len(values) for values in matrix.values())
    loaded = groups(f"matrix: {matrix}, exclude: [{{{name}: {excluded}}}]")
    if len(matrix[name]) == 1:
        with pytest.raises(ManifestError, match="expands to nothing"):
            plan(loaded)
        return
    planned = plan(loaded)
    assert len(planned) == total - total // len(matrix[name])
    assert len({item.experiment_id for item in planned}) == len(planned)
    assert all(getattr(item.experiment, name) != excluded for item in planned)


@settings(deadline=None, max_examples=40)
@given(MATRICES, st.randoms(use_true_random=False))
def test_identities_do_not_depend_on_the_order_of_axes(matrix: dict[str, list[Any]], source: Any) -> None:
    names = list(matrix)
    source.shuffle(names)
    shuffled = {name: matrix[name] for name in names}
    before = {item.experiment_id for item in plan(groups(f"matrix: {matrix}"))}
    assert {item.experiment_id for item in plan(groups(f"matrix: {shuffled}"))} == before


def test_settings_of_the_virtual_block_win_one_by_one_over_the_manifest() -> None:
    loaded = groups("options: {backend: virtual, virtual: {drift: 0.01, latency_s: 2}}")
    (planned,) = plan(loaded, "virtual.latency_s=3", "virtual.call_noise=0")
    virtual = planned.experiment.virtual
    assert (virtual.latency_s, virtual.call_noise, virtual.drift, virtual.launch_noise) == (3.0, 0.0, 0.01, 0.01)
    with pytest.raises(UserError, match="unknown key 'latency'; nearest: 'latency_s'"):
        parse_settings(["virtual.latency=3"])
