"""SQL over the index of a folder of runs."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdbench.errors import UserError
from sdbench.query.index import import_duckdb, open_index

# What `sdbench query` shows without SQL.
OVERVIEW = """
SELECT coalesce(gpu, cpu) AS device, driver, label AS experiment, median(latency_s) AS median_latency_s,
       count(*) AS runs
FROM results WHERE latency_s IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
_SKIPPED = "SELECT path || ': ' || problem FROM files WHERE problem IS NOT NULL ORDER BY path"


@dataclass(frozen=True)
class Answer:
    """The columns and rows of an answer, and the records that could not be indexed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    problems: tuple[str, ...] = ()


def run_query(sql: str, results: Path) -> Answer:
    """Return what a SELECT gives over a folder of runs, after updating its index.

    Raises:
        UserError: it is not one SELECT over these tables, or the folder is missing.
        EnvironmentProblem: DuckDB is not installed.
    """
    duckdb = import_duckdb()
    with open_index(results) as connection:
        try:
            # DuckDB takes Unicode only.
            statements = connection.extract_statements(sql.encode("utf-8", "replace").decode())
            if len(statements) > 1:
                raise UserError(f"expected one query, got {len(statements)}; run them one by one")
            if any(statement.type != duckdb.StatementType.SELECT for statement in statements):
                raise UserError(f"{sql[:100]!r} does more than read; use SELECT")
            cursor = connection.execute(statements[0]) if statements else None
            if cursor is None or not cursor.description:
                raise UserError("the query is empty; write SELECT ... or FROM runs")
            columns = _distinct(str(column[0]) for column in cursor.description)
            rows = tuple(cursor.fetchall())
            skipped = connection.execute(_SKIPPED).fetchall()
        except duckdb.Error as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"the query failed: {text}; sdbench query --schema shows the tables") from None
        return Answer(columns, rows, tuple(problem for (problem,) in skipped))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Number repeated names: ``SELECT a.x, b.x`` has two columns, and JSON must show both."""
    distinct: dict[str, None] = {}
    for name in names:
        numbered, number = name, 1
        while numbered in distinct:
            number += 1
            numbered = f"{name}_{number}"
        distinct[numbered] = None
    return tuple(distinct)


def find_queried_runs(sql: str, results: Path) -> tuple[Path, ...]:
    """Return the folders of the runs that a query's column ``path``, or else ``run_id``, names, each once.

    Raises:
        UserError: the query fails, has neither column, or matches no run.
    """
    answer = run_query(sql, results)
    column = next((name for name in ("path", "run_id") if name in answer.columns), None)
    if column is None:
        raise UserError(f"the query {sql!r} has no column path or run_id; write FROM runs WHERE ...")
    place = answer.columns.index(column)
    # Only what the index has: a query from elsewhere could name any folder of this machine.
    paths: defaultdict[object, list[str]] = defaultdict(list)
    for path, run_id in run_query("SELECT path, run_id FROM runs", results).rows:
        paths[path if column == "path" else run_id].append(path)
    matches = dict.fromkeys(path for row in answer.rows for path in paths.get(row[place], ()))
    if not matches:
        raise UserError(f"the query {sql!r} matches no run in {results}; sdbench query 'FROM runs' shows them")
    return tuple(results / name for name in matches)
