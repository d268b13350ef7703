"""Every way to write a manifest wrong: one line that names file, line, column, key, value and the nearest name."""

import hashlib
import tracemalloc
from pathlib import Path

import pytest

from sdbench.errors import ManifestError, UserError
from sdbench.plan.manifest_file import check_manifest, load_manifest, nearest
from sdbench.schema.document import MAX_TEXT_BYTES, parse_yaml
from tests.plan.manifests import HEAD, load

GROUP = "experiments: [{id: a, title: T}]\n"
CLAIM = "claims: [{{id: c, text: T, metric: {metric}, numerator: {{{side}}}, expected: {{low: 1}}, source: S}}]\n"


def group(keys: str) -> str:
    return f"experiments:\n  - id: a\n    title: T\n    {keys}\n"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("experimnts: []\n" + GROUP, "4:1", "unknown key 'experimnts'; nearest: 'experiments'"),
        ("protocol: {warmups: 3}\n" + GROUP, "4:12", "unknown key 'warmups'; nearest: 'warmup_calls'"),
        ("source: {title: T, yaer: 2022}\n" + GROUP, "4:20", "unknown key 'yaer'; nearest: 'year'"),
        (group("matrx: {batch: [1]}"), "7:5", "unknown key 'matrx'; nearest: 'matrix'"),
        (group("protocol: {budget_s: 3}"), "7:16", "unknown key 'budget_s'; nearest: 'launch_budget_s'"),
        (group("matrix: {bach: [1]}"), "7:14", "unknown option 'bach'; nearest: 'batch'"),
        (group("options: {hieght: 64}"), "7:15", "unknown option 'hieght'; nearest: 'height'"),
        (group("include: [{qqqq: 1}]"), "7:16", "unknown option 'qqqq'; known: architecture, attention, autocast"),
        (group("exclude: [{grup: b}]"), "7:16", "unknown option 'grup'; nearest: 'group'"),
        ("defaults: {precison: fp16}\n" + GROUP, "4:12", "unknown option 'precison'; nearest: 'precision'"),
        (CLAIM.format(metric="latency_s", side="opts: {}") + GROUP, "4:58", "unknown key 'opts'; nearest: 'options'"),
        (CLAIM.format(metric="latency_s", side="options: {bach: 1}") + GROUP, "4:68", "nearest: 'batch'"),
        (CLAIM.format(metric="speed", side="options: {}") + GROUP, "4:27", 'claims[0].metric is "speed"'),
        (
            "protocol: {warmup_calls: '3'}\n" + GROUP,
            "4:12",
            'protocol.warmup_calls is "3": input should be a valid int',
        ),
        ("protocol: {calls_min: 0}\n" + GROUP, "4:12", "protocol.calls_min is 0: "),
        ("protocol: {confidence: 1}\n" + GROUP, "4:12", "protocol.confidence is 1: "),
        ("protocol:\n" + GROUP, "4:1", "protocol is null: "),
        ("source: {title: 3}\n" + GROUP, "4:10", "source.title is 3: "),
        ("defaults: {batch: true}\n" + GROUP, "4:12", "batch is true: "),
        ("defaults: {batch: 1.0}\n" + GROUP, "4:12", "batch is 1.0: "),
        ("defaults: {batch: null}\n" + GROUP, "4:12", "batch is null: "),
        ("defaults: {prompt: 3}\n" + GROUP, "4:12", "prompt is 3: "),
        ("defaults: {tf32: on}\n" + GROUP, "4:12", 'tf32 is "on": '),
        (group("options: {height: 65}"), "7:15", "height is 65: input should be a multiple of 8"),
        (group("options: {backend: pytorhc}"), "7:15", "unknown backend; nearest: 'pytorch'"),
        (group("options: {workload: latancy}"), "7:15", "unknown workload; nearest: 'latency'"),
        (group("matrix: {precision: [fp32, fp61]}"), "7:32", "precision is \"fp61\": unknown value; nearest: 'fp16'"),
        (group("matrix: {batch: [1, [2]]}"), "7:25", "matrix.batch[1] is [2]: "),
        (group("matrix: {batch: 3}"), "7:14", "experiments[0].matrix.batch is 3: input should be a valid array"),
        (group("matrix: {}"), "7:5", "the matrix is empty"),
        (group("matrix:"), "7:5", "matrix is null: "),
        (group("matrix: {batch: []}"), "7:14", "matrix key 'batch' has no values"),
        ("experiments: []\n", "4:1", "experiments is []: "),
        ("experiments: 3\n", "4:1", "experiments is 3: "),
        ("experiments: [{title: T}]\n", "4:15", "the key 'id' is missing in experiments[0]"),
        ("experiments: [{id: A B, title: T}]\n", "4:16", 'experiments[0].id is "A B": '),
        ("experiments: [{id: a, title: T}, {id: a, title: T}]\n", "4:35", "id 'a' is used twice"),
        ("", "1:1", "the key 'experiments' is missing in the manifest"),
    ],
)
def test_error_names_line_column_key_value_and_nearest_name(text: str, where: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load(text)
    message = str(caught.value)
    assert message.startswith(f"m.yaml:{where}: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("title: T\n", "1:1", "the key 'schema' is missing; start with 'schema: sdbench/manifest/v1'"),
        ("schema: sdbench/manifest/v2\n", "1:1", "is of another version; this sdbench reads 'sdbench/manifest/v1'"),
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
    with pytest.raises(UserError, match="is a folder; name a manifest file in it"):
        load_manifest(tmp_path)


def test_file_of_50_mb_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError, match="over 1,000,000 bytes, too large for a manifest"):
            load_manifest(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [("bach", ["batch", "seed"], "nearest: 'batch'"), ("zzz", ["batch", "seed"], "known: batch, seed")],
)
def test_nearest_name_is_told_or_all_when_none_is_near(word: str, known: list[str], said: str) -> None:
    assert nearest(word, known) == said


@pytest.mark.parametrize("name", ["quick.yaml", "smoke.yaml"])
def test_shipped_manifests_are_sound(name: str) -> None:
    assert load_manifest(Path(__file__).parents[2] / "manifests" / name).manifest.experiments
