"""The index agrees with the records after every change, and is never needed for them to be right."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import UserError
from sdbench.query import index
from sdbench.query.index import INDEX_FOLDER, INDEX_NAME, open_index
from sdbench.query.queries import OVERVIEW, find_queried_runs, run_query
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record
from sdbench.stats.intervals import estimate_latency
from sdbench.store.bundle import encode_record, load_record
from tests.records import make_record

GOLDEN = Path(__file__).parents[1] / "golden"


def write_run(results: Path, name: str, **changes: Any) -> Record:
    record = make_record(run_id=name, **changes)
    (results / name).mkdir(parents=True)
    (results / name / "record.json").write_bytes(encode_record(record.to_json_dict()))
    return record


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for number in range(3):
        write_run(folder, f"run-{number}", device="cuda:0" if number else "cpu")
    return folder


def count(results: Path, sql: str = "SELECT count(*) FROM runs") -> int:
    return int(run_query(sql, results).rows[0][0])


def test_tables_hold_what_the_records_hold(results: Path) -> None:
    records = [load_record(results / f"run-{number}") for number in range(3)]
    assert count(results) == 3
    assert count(results, "SELECT count(*) FROM experiments") == sum(len(record.results) for record in records)
    latencies_s = dict(run_query("SELECT run_id || experiment_id, latency_s FROM results", results).rows)
    samples = count(results, "SELECT count(*) FROM samples WHERE series = 'latency'")
    expected_samples = 0
    for record in records:
        for result in record.results:
            if isinstance(result.outcome, Succeeded):
                series = [launch.find_series("latency") for launch in result.outcome.launches]
                steady = [item.steady for item in series if item]
                latency_s = latencies_s[record.run_id + result.planned.experiment_id]
                assert latency_s == pytest.approx(estimate_latency(steady, 0.95).value, rel=1e-12)
            launches = getattr(result.outcome, "launches", getattr(result.outcome, "partial", ()))
            expected_samples += sum(len(s.samples) for launch in launches if (s := launch.find_series("latency")))
    assert samples == expected_samples


def test_second_update_reads_nothing(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count(results) == 3
    monkeypatch.setattr(index, "load_record", lambda *_: pytest.fail("a record was read again"))
    assert count(results) == 3


def test_new_changed_and_removed_runs_are_indexed(results: Path) -> None:
    assert count(results) == 3
    write_run(results, "run-3")
    shutil.rmtree(results / "run-0")
    shutil.rmtree(results / "run-1")
    write_run(results, "run-1", created_utc="2026-02-02T00:00:00Z")
    rows = run_query("SELECT run_id, created_utc FROM runs ORDER BY 1", results).rows
    assert [row[0] for row in rows] == ["run-1", "run-2", "run-3"]
    assert rows[0][1] == "2026-02-02T00:00:00Z"
    assert count(results, "SELECT count(DISTINCT path) FROM series") == 3


def test_changed_record_is_skipped_and_reported_until_it_is_restored(results: Path) -> None:
    path = results / "run-1" / "record.json"
    valid = path.read_text()
    path.write_text(valid.replace('"ended": "complete"', '"ended": "paused"'))
    answer = run_query("SELECT count(*) FROM runs", results)
    assert answer.rows == ((2,),)
    assert any("run-1" in problem and "seal" in problem for problem in answer.problems)
    assert run_query("FROM runs", results).problems == answer.problems
    path.write_text(valid)
    assert count(results) == 3


def test_query_can_read_and_write_nothing_else(results: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for sql in (
        f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ):
        with pytest.raises(UserError, match=r"the query failed|does more than read"):
            run_query(sql, results)
    assert not (tmp_path / "out.csv").exists()


def test_query_names_runs_by_path_or_id_each_once(results: Path) -> None:
    assert find_queried_runs("FROM runs WHERE gpu IS NOT NULL ORDER BY path", results) == (
        results / "run-1",
        results / "run-2",
    )
    assert find_queried_runs("SELECT run_id FROM results WHERE batch = 4", results)[0].parent == results
    assert len(find_queried_runs("SELECT run_id FROM results", results)) == 3
    with pytest.raises(UserError, match="matches no run"):
        find_queried_runs("FROM runs WHERE gpu = 'none'", results)
    with pytest.raises(UserError, match="no column path or run_id"):
        find_queried_runs("SELECT gpu FROM runs", results)


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        count(tmp_path / "none")


def test_folder_that_cannot_be_written_is_queried_all_the_same(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.query.index.os.access", lambda *_: False)
    assert count(results) == 3
    assert not (results / INDEX_FOLDER).exists()


def test_each_column_has_a_name_of_its_own(results: Path) -> None:
    answer = run_query("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a", results)
    assert answer.columns == ("a", "a_2", "a_2_2", "a_3")


def test_two_queries_at_once_are_refused(results: Path) -> None:
    with pytest.raises(UserError, match="expected one query, got 2"):
        run_query("SELECT 1; SELECT 2", results)
    assert run_query("SELECT 1;", results).rows == ((1,),)


def test_scratch_folder_is_no_way_out(results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "secret.txt").write_text("secret")
    with pytest.raises(UserError, match="the query failed"):
        run_query(f"SELECT * FROM read_text('{tmp_path}/.tmp/secret.txt')", results)


def test_query_that_would_write_the_index_is_refused(results: Path) -> None:
    assert count(results) == 3
    path = results / INDEX_FOLDER / INDEX_NAME
    before = path.read_bytes()
    for sql in (
        f"COPY (SELECT 1 AS a) TO '{path}' (FORMAT parquet, USE_TMP_FILE false)",
        f"EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{path}' (FORMAT parquet, USE_TMP_FILE false)",
        "CREATE TABLE a AS SELECT 1",
        "SET threads = 1",
    ):
        with pytest.raises(UserError, match="does more than read"):
            run_query(sql, results)
    assert path.read_bytes() == before
    for sql in ("FROM runs", "WITH a AS (FROM runs) FROM a", "DESCRIBE runs", "SHOW TABLES", "SUMMARIZE runs"):
        assert run_query(sql, results).rows


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["results"][0].update(
            planned=record["results"][0]["planned"] | {"experiment": {}},
            outcome={"kind": "skipped", "reason": "a", "hint": "b"},
        ),
        lambda record: record["results"][0]["planned"]["experiment"].update(seed="a text"),
        lambda record: record["results"][0]["planned"]["experiment"].update(seed=2**70),
        lambda record: record["fingerprint"]["hardware"].update(gpus={"status": "known", "value": [{"name": 1}]}),
        lambda record: record["manifest"].update(title="\ud800"),
    ],
    ids=["no batch", "text for a number", "number too large", "odd GPU", "half a character"],
)
def test_records_next_to_an_odd_one_are_indexed(results: Path, change: Any) -> None:
    path = results / "run-1" / "record.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with contextlib.suppress(UnicodeEncodeError):
        path.write_bytes(encode_record(content))
    answer = run_query("SELECT path FROM runs ORDER BY path", results)
    paths = {path for (path,) in answer.rows}
    assert {"run-0", "run-2"} <= paths
    # What no column can hold is empty, or the record is left out and named.
    assert len(paths) + len(answer.problems) == 3
    assert all("run-1" in problem and "\n" not in problem for problem in answer.problems)


def test_record_that_was_put_back_with_its_old_time_is_read_again(results: Path) -> None:
    assert count(results) == 3
    path = results / "run-1" / "record.json"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"measured", b"measuret"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert count(results) == 2


def test_query_names_no_folder_but_those_of_runs(results: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "private", "run-9")
    for path in (str(tmp_path / "private" / "run-9"), "../private/run-9", "/etc"):
        with pytest.raises(UserError, match="matches no run"):
            find_queried_runs(f"SELECT '{path}' AS path", results)


@pytest.mark.parametrize("content", [None, b"", b"no database", b"\0" * 5000])
def test_lost_or_damaged_index_is_built_again(results: Path, content: bytes | None) -> None:
    assert count(results) == 3
    path = results / INDEX_FOLDER / INDEX_NAME
    path.unlink() if content is None else path.write_bytes(content)
    assert count(results) == 3


def test_index_of_another_version_is_built_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_VERSION", "0")
    assert count(results) == 3
    monkeypatch.undo()
    monkeypatch.setattr(index, "load_record", lambda path: load_record(path).model_copy(update={"device": "cuda:7"}))
    assert count(results, "SELECT count(*) FROM runs WHERE device = 'cuda:7'") == 3


def test_index_does_not_change_while_a_query_runs(results: Path) -> None:
    with open_index(results) as connection:
        write_run(results, "run-new")
        other = subprocess.Popen([sys.executable, "-m", "sdbench", "query", "--results", str(results)])
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=2)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (3,)
    assert other.wait() == 0
    assert count(results) == 4


def test_overview_has_a_row_per_device_driver_and_experiment(results: Path) -> None:
    answer = run_query(OVERVIEW, results)
    assert answer.columns == ("device", "driver", "experiment", "median_latency_s", "runs")
    assert sum(row[4] for row in answer.rows) == count(results, "SELECT count(latency_s) FROM results")
