"""SQL over the index of a folder of runs, and a summary that needs no index."""

import contextlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sdbench.errors import RecordError, UserError
from sdbench.store.facts import latency_s_of, read_brief
from sdbench.store.index import current_index
from sdbench.store.names import RECORD_NAME

SUMMARY_COLUMNS = ("device", "driver", "experiment", "median_latency_s", "runs")


@dataclass(frozen=True)
class Answer:
    """The columns and rows of an answer, and what the index had to leave out."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    problems: tuple[str, ...] = ()


def ask(sql: str, results: Path) -> Answer:
    """Return what SQL finds in a folder of runs, after making its index agree with what is there.

    Of a folder that cannot be written the index is made anew for each question, elsewhere.

    Raises:
        UserError: it is no SQL over these tables, or the folder is missing.
        EnvironmentProblem: DuckDB is not installed.
    """
    if results.is_dir() and not os.access(results, os.W_OK):
        with tempfile.TemporaryDirectory(prefix="sdbench-index-") as elsewhere:
            return _ask(sql, results, Path(elsewhere))
    return _ask(sql, results, None)


def _ask(sql: str, results: Path, folder: Path | None) -> Answer:
    with current_index(results, folder) as (connection, update):
        import duckdb

        try:
            # What is no Unicode DuckDB does not take.
            sql = sql.encode("utf-8", "replace").decode()
            statements = connection.extract_statements(sql)
            if len(statements) > 1:
                raise UserError(f"these are {len(statements)} queries; ask one at a time")
            # Any other could write what it may read: the index.
            if any(statement.type != duckdb.StatementType.SELECT for statement in statements):
                raise UserError(f"{sql[:100]!r} does more than read; ask with SELECT alone")
            cursor = connection.execute(sql)
            if cursor is None or not cursor.description:
                raise UserError("the query asks for nothing; write SELECT ... or FROM runs")
            columns = _distinct(str(column[0]) for column in cursor.description)
            return Answer(columns, tuple(cursor.fetchall()), update.problems)
        except duckdb.Error as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"the query fails: {text}; sdbench query --schema shows the tables") from None


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Give a name that comes again a number: ``SELECT a.x, b.x`` has two columns, and JSON must show both."""
    found: dict[str, None] = {}
    for name in names:
        number = 1
        while (numbered := name if number == 1 else f"{name}_{number}") in found:
            number += 1
        found[numbered] = None
    return tuple(found)


def find_queried_runs(sql: str, results: Path) -> tuple[Path, ...]:
    """Return the folders of the runs that a query's column ``path``, or else ``run_id``, names, each once.

    Raises:
        UserError: the query fails, has neither column, or finds no run.
    """
    answer = ask(sql, results)
    column = next((name for name in ("path", "run_id") if name in answer.columns), None)
    if column is None:
        raise UserError(f"the query {sql!r} has no column path or run_id; write FROM runs WHERE ...")
    place = answer.columns.index(column)
    # Only what the index has: a query from elsewhere could name any folder of this machine.
    paths: defaultdict[object, list[str]] = defaultdict(list)
    for path, run_id in ask("SELECT path, run_id FROM runs", results).rows:
        paths[path if column == "path" else run_id].append(path)
    found = dict.fromkeys(path for row in answer.rows for path in paths.get(row[place], ()))
    if not found:
        raise UserError(f"the query {sql!r} finds no run in {results}")
    return tuple(results / name for name in found)


def summarize(results: Path) -> Answer:
    """Return the median latency (s) of each experiment by device and driver, straight from the records.

    Records are read one after the other and only in part; their seals are not checked.

    Raises:
        UserError: no such folder.
    """
    if not results.is_dir():
        raise UserError(f"{results}: no such folder; name the folder that holds the runs")
    found: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    problems = []
    for path, content in _records(results):
        try:
            record = read_brief(content, path)
        except RecordError as error:
            problems.append(str(error))
            continue
        device, driver = record.device_name, record.fingerprint.software.gpu_kernel_driver.value or ""
        for result in record.results:
            if (latency_s := latency_s_of(result.outcome)) is not None:
                found[device, driver, result.planned.label].append(latency_s)
    rows = tuple((*key, median(values), len(values)) for key, values in sorted(found.items()))
    return Answer(SUMMARY_COLUMNS, rows, tuple(problems))


def _records(results: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the records below a folder with their paths; Paths of 10,000 runs would take as long as their bytes."""
    with os.scandir(results) as entries:
        folders = sorted(entry.path for entry in entries if not entry.name.startswith("."))
    for folder in folders:
        path = f"{folder}/{RECORD_NAME}"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - see above
            yield path, stream.read()
