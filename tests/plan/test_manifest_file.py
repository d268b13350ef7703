"""Every way to write a manifest wrong: one line that names file, line, column, key, value and the nearest name."""

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sdbench.cli.schema import build_schema
from sdbench.errors import ManifestError, UserError
from sdbench.plan.manifest_file import check_manifest, load_manifest, nearest
from sdbench.schema.document import MAX_TEXT_BYTES, parse_yaml
from sdbench.schema.experiment import REVISION_FORM, Experiment
from sdbench.schema.manifest import Manifest
from tests.plan.manifests import HEAD, load, plan

GROUP = "experiments: [{id: a, title: T}]\n"
CLAIM = "claims: [{{id: c, text: T, metric: {metric}, numerator: {{{selector}}}, expected: {{low: 1}}, source: S}}]\n"


def group(keys: str) -> str:
    return f"experiments:\n  - id: a\n    title: T\n    {keys}\n"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("experimnts: []\n" + GROUP, "4:1", "unknown key 'experimnts'; nearest: 'experiments'"),
        ("protocol: {warmups: 3}\n" + GROUP, "4:12", "unknown key 'warmups'; nearest: 'warmup_s'"),
        ("source: {title: T, yaer: 2022}\n" + GROUP, "4:20", "unknown key 'yaer'; nearest: 'year'"),
        (group("matrx: {batch: [1]}"), "7:5", "unknown key 'matrx'; nearest: 'matrix'"),
        (group("protocol: {budget_s: 3}"), "7:16", "unknown key 'budget_s'; nearest: 'launch_budget_s'"),
        (group("matrix: {bach: [1]}"), "7:14", "unknown option 'bach'; nearest: 'batch'"),
        (group("options: {hieght: 64}"), "7:15", "unknown option 'hieght'; nearest: 'height'"),
        (group("include: [{qqqq: 1}]"), "7:16", "unknown option 'qqqq'; known: attention, autocast, backend"),
        (group("exclude: [{grup: b}]"), "7:16", "unknown option 'grup'; nearest: 'group'"),
        ("defaults: {precison: fp16}\n" + GROUP, "4:12", "unknown option 'precison'; nearest: 'precision'"),
        (
            CLAIM.format(metric="latency_s", selector="opts: {}") + GROUP,
            "4:58",
            "unknown key 'opts'; nearest: 'options'",
        ),
        (CLAIM.format(metric="latency", selector="options: {}") + GROUP, "4:27", "nearest: 'latency_s'"),
        (CLAIM.format(metric="latency_s", selector="options: {bach: 1}") + GROUP, "4:68", "nearest: 'batch'"),
        (CLAIM.format(metric="speed", selector="options: {}") + GROUP, "4:27", 'metric is "speed": expected latency_s'),
        (
            "protocol: {warmup_calls: '3'}\n" + GROUP,
            "4:12",
            'warmup_calls is "3": expected one integer',
        ),
        ("protocol: {calls_min: 0}\n" + GROUP, "4:12", "calls_min is 0: expected at least 1"),
        ("protocol: {confidence: 1}\n" + GROUP, "4:12", "confidence is 1: expected less than 1"),
        ("protocol:\n" + GROUP, "4:1", "protocol is null: "),
        ("source: {title: 3}\n" + GROUP, "4:10", "title is 3: expected text"),
        ("defaults: {batch: true}\n" + GROUP, "4:12", "batch is true: "),
        ("defaults: {batch: 1.0}\n" + GROUP, "4:12", "batch is 1.0: "),
        ("defaults: {batch: null}\n" + GROUP, "4:12", "batch is null: "),
        ("defaults: {prompt: 3}\n" + GROUP, "4:12", "prompt is 3: "),
        ("defaults: {tf32: on}\n" + GROUP, "4:12", 'tf32 is "on": expected false, convolutions, true'),
        (group("options: {height: 65}"), "7:15", "height is 65: expected a multiple of 8"),
        ("defaults: {pipeline: sd-v1.4}\n" + GROUP, "4:12", "unknown pipeline; nearest: 'sd-1.4'"),
        (
            "defaults: {scheduler: eular}\n" + GROUP,
            "4:12",
            "expected pndm, ddim, euler, dpm++, euler-ancestral, unipc, lcm, flow-euler; nearest: 'euler'",
        ),
        (
            "defaults: {config: {unet.layers_per_block: [1]}}\n" + GROUP,
            "4:21",
            "unet.layers_per_block is [1]: expected a number, text, true, false or null",
        ),
        ("defaults: {pipeline: ./mine}\n" + GROUP, "4:12", "a path is set by --set pipeline=PATH, and is not portable"),
        ("defaults: {pipeline: mine@0123456789ab}\n" + GROUP, "4:12", "unknown pipeline; known: flux.1-dev, "),
        (group("options: {backend: pytorhc}"), "7:15", "unknown backend; nearest: 'pytorch'"),
        (group("options: {workload: latancy}"), "7:15", "unknown workload; nearest: 'latency'"),
        (
            group("matrix: {precision: [fp32, fp61]}"),
            "7:32",
            "precision is \"fp61\": expected fp32, fp16, bf16; nearest: 'fp16'",
        ),
        (group("matrix: {batch: [1, [2]]}"), "7:25", "batch is [2]: expected one integer"),
        (group("matrix: {batch: 3}"), "7:14", "batch is 3: expected a list"),
        (group("matrix: {}"), "7:5", "the matrix is empty"),
        (group("matrix:"), "7:5", "matrix is null: "),
        (group("matrix: {batch: []}"), "7:14", "batch is []: expected at least one value"),
        ("experiments: []\n", "4:1", "experiments is []: "),
        ("experiments: 3\n", "4:1", "experiments is 3: "),
        ("experiments: [{title: T}]\n", "4:15", "the key 'id' is missing in experiments"),
        ("experiments: [{id: A B, title: T}]\n", "4:16", 'id is "A B": expected at most 64 lower-case letters'),
        ("experiments: [{id: a, title: T}, {id: a, title: T}]\n", "4:35", "id 'a' is used twice"),
        ("", "1:1", "the key 'experiments' is missing in the manifest"),
    ],
)
def test_error_names_line_column_key_value_and_nearest_name(text: str, where: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load(text)
    (message,) = [problem for problem in caught.value.problems if problem.startswith(f"m.yaml:{where}: ")]
    assert words in message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("title: T\n", "1:1", "the key 'schema' is missing; start with 'schema: sdbench/manifest/v1'"),
        ("schema: sdbench/manifest/v2\n", "1:1", "is another version; this sdbench reads 'sdbench/manifest/v1'"),
        ("title: T\nschema: sdbench/record/v1\n", "2:1", 'schema is "sdbench/record/v1"; write'),
        ("schema: 1\n", "1:1", "schema is 1; write"),
        ("- a\n- b\n", "1:1", 'a manifest is a mapping, this is ["a", "b"]'),
        ("just words\n", "1:1", 'a manifest is a mapping, this is "just words"'),
    ],
)
def test_document_that_is_no_manifest_of_this_version_is_refused(text: str, where: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        check_manifest(parse_yaml(text, "m.yaml"))
    assert str(caught.value).startswith(f"m.yaml:{where}: ")
    assert words in str(caught.value)


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ManifestError) as caught:
        load("defaults: {precision: " + "x" * 5000 + "}\n" + GROUP)
    assert len(str(caught.value)) < 250


def test_file_is_read_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(HEAD + GROUP)
    loaded = load_manifest(path)
    assert loaded.manifest.title == "T"
    assert loaded.sha256 == hashlib.sha256((HEAD + GROUP).encode()).hexdigest()
    assert loaded.document.name == str(path)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ManifestError, match=r"m\.yaml:1:1: this is a binary file"):
        load_manifest(path)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.touch()
    with pytest.raises(ManifestError, match="the file is empty"):
        load_manifest(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        load_manifest(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match=r"cannot read .*Is a directory|not a regular file"):
        load_manifest(tmp_path)


def test_file_of_50_mb_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="larger than the limit of"):
            load_manifest(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [("bach", ["batch", "seed"], "nearest: 'batch'"), ("zzz", ["batch", "seed"], "known: batch, seed")],
)
def test_nearest_name_is_given_or_all_when_none_is_near(word: str, known: list[str], expected: str) -> None:
    assert nearest(word, known) == expected


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("num_images_per_prompt", "batch"),
        ("iterations", "protocol.calls_max"),
        ("cpu_offload", None),
        ("variant", None),
        ("hieght", "height"),
    ],
)
def test_far_names_are_not_suggested_and_names_of_diffusers_are_known(word: str, near: str | None) -> None:
    suggestion = nearest(word, Experiment.model_fields)
    assert suggestion == f"nearest: {near!r}" if near else suggestion.startswith("known: ")


def test_revision_that_is_not_a_commit_is_refused_in_the_words_of_the_check_of_weights() -> None:
    head = HEAD.replace("{pipeline: tiny-sd}", "{pipeline: tiny-sd, hub_id: a/b, revision: main}")
    with pytest.raises(ManifestError) as caught:
        check_manifest(parse_yaml(head + GROUP, "m.yaml"))
    assert str(caught.value) == f'm.yaml:3:41: revision is "main": expected {REVISION_FORM}'


def test_list_where_one_value_belongs_says_where_several_go() -> None:
    with pytest.raises(ManifestError, match="several values go under matrix"):
        load(group("include: [{batch: [1, 2]}]"))
    with pytest.raises(ManifestError, match="expected fp32, fp16, bf16; several values go under matrix"):
        load(group("options: {precision: [fp32, fp16]}"))


def test_all_errors_are_listed_in_the_order_of_the_file() -> None:
    text = "protocol: {calls: 3, calls_min: 0}\nexperiments:\n  - {id: a, title: T, options: {bach: 1, steps: 0}}\n"
    with pytest.raises(ManifestError) as caught:
        load(text + "  - {id: b}\n")
    places = [problem.split(" ")[0] for problem in caught.value.problems]
    assert places == ["m.yaml:4:12:", "m.yaml:4:22:", "m.yaml:6:33:", "m.yaml:6:42:", "m.yaml:7:5:"]
    assert "and 4 more problems" in str(caught.value)


def test_errors_of_several_groups_are_listed_together() -> None:
    two = (
        "experiments:\n  - {id: a, title: T, options: {batch_max: 3}}\n  - {id: b, title: T, options: {sweep_min: 3}}\n"
    )
    with pytest.raises(ManifestError) as caught:
        plan(load(two))
    assert [problem.split(" ")[0] for problem in caught.value.problems] == ["m.yaml:5:5:", "m.yaml:6:5:"]


@pytest.mark.parametrize("number", ["1e999", "9" * 40, "1" + "0" * 400, "1e300"])
def test_number_that_arithmetic_does_not_survive_is_refused(number: str) -> None:
    for text in (
        f"protocol: {{budget_s: {number}}}\n" + GROUP,
        f"defaults: {{memory_limit_bytes: {number}}}\n" + GROUP,
    ):
        with pytest.raises(ManifestError, match=r"m\.yaml:4:"):
            load(text)
    claim = CLAIM.format(metric="latency_s", selector="options: {}").replace("low: 1", f"low: {number}")
    with pytest.raises(ManifestError, match=r"m\.yaml:4:"):
        load(claim + GROUP)


def test_manifest_comes_back_from_json_with_only_what_was_written() -> None:
    loaded = load(
        "experiments:\n  - {id: a, title: T, options: {threads: null},"
        " matrix: {steps: [1], tf32: [true, convolutions]},"
        " exclude: [{steps: 1, tf32: true}, {group: b}], protocol: {calls_min: 2}}\n"
        "  - {id: b, title: T}\n"
    )
    written = loaded.manifest.to_json_dict()
    group_a = written["experiments"][0]
    assert group_a["options"] == {"threads": None}
    assert group_a["matrix"] == {"tf32": [True, "convolutions"], "steps": [1]}
    assert group_a["exclude"] == [{"tf32": True, "steps": 1}, {"group": "b"}]
    assert group_a["protocol"] == {"calls_min": 2}
    assert Manifest.model_validate_json(json.dumps(written)) == loaded.manifest


@pytest.mark.parametrize("what", ["manifest", "record"])
def test_every_property_of_the_json_schemas_has_a_description(what: str) -> None:
    schema: dict[str, Any] = build_schema(what)
    described = {"": schema, **schema["$defs"]}
    missing = [
        f"{model}.{name}"
        for model, definition in described.items()
        for name, value in definition.get("properties", {}).items()
        if not value.get("description")
    ]
    assert missing == []
    assert sum(len(definition.get("properties", ())) for definition in described.values()) > 100


@pytest.mark.parametrize("name", ["quick.yaml", "smoke.yaml", "lambda-2022.yaml", "lambda-2022-cpu.yaml"])
def test_shipped_manifests_are_valid(name: str) -> None:
    assert load_manifest(Path(__file__).parents[2] / "manifests" / name).manifest.experiments
