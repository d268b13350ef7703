"""An index of many runs: one DuckDB file next to them, built from their records and never needed for correctness.

The JSON of each run is the truth. A record is recognised by its size and times: one that changed or is gone is taken
out of the index, a new one is added, and the others are not read again.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.query.tables import COLUMNS, VIEWS, rows_of
from sdbench.store.bundle import load_record, pause_collector
from sdbench.store.layout import RECORD_NAME
from sdbench.store.lock import hold_file

if TYPE_CHECKING:
    import duckdb

INDEX_FOLDER = ".sdbench-index"
INDEX_NAME = "index.duckdb"
_LOCK_NAME = "lock"
# Changes with the tables: an index of another version is built from scratch.
_VERSION = "4"
# So many records are held in memory at once.
_BATCH = 1_000
_PROBLEM_CHARACTERS = 300

# Size (bytes), time of change (ns), and time of change of the inode (ns), which cannot be set.
Stamp = tuple[int, int, int]


@contextlib.contextmanager
def open_index(results: Path) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Update the index of a folder of runs and yield a read-only database of it, locked against changes.

    The index of a folder that cannot be written, or has no runs, is built each time in a temporary folder.

    Raises:
        UserError: there is no such folder.
        EnvironmentProblem: DuckDB is not installed, or the folder is not writable.
    """
    duckdb = import_duckdb()
    if not results.is_dir():
        raise UserError(f"{results}: no such folder; name the folder that holds the runs")
    with contextlib.ExitStack() as stack:
        folder = results / INDEX_FOLDER
        # Nothing is written where there are no runs, or where that is not possible.
        if not folder.is_dir() and (not os.access(results, os.W_OK) or not any(results.glob(f"*/{RECORD_NAME}"))):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sdbench-index-")))
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise EnvironmentProblem(f"cannot write {folder}: {error.strerror}; make {results} writable") from None
        stack.enter_context(hold_file(folder / _LOCK_NAME))
        path = folder / INDEX_NAME
        try:
            _update(path, results)
        except duckdb.Error:
            # Damaged, or written by another DuckDB: the records have all of it.
            for file in folder.glob(f"{INDEX_NAME}*"):
                file.unlink(missing_ok=True)
            _update(path, results)
        connection = stack.enter_context(contextlib.closing(_connect(path, read_only=True)))
        # A query may be untrusted: it reads the index and nothing else of the machine.
        for setting in ("temp_directory = ''", "enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        yield connection


def import_duckdb() -> ModuleType:
    """Return the module of DuckDB.

    Raises:
        EnvironmentProblem: DuckDB is not installed.
    """
    try:
        return import_module("duckdb")
    except ImportError:
        msg = "queries need DuckDB, which is not installed; install the extra: pip install 'sdbench[query]'"
        raise EnvironmentProblem(msg) from None


def _connect(path: Path, *, read_only: bool) -> "duckdb.DuckDBPyConnection":
    import duckdb

    extensions = "autoinstall_known_extensions", "autoload_known_extensions"
    return duckdb.connect(str(path), read_only=read_only, config=dict.fromkeys(extensions, False))


def _update(path: Path, results: Path) -> None:
    present = dict(_scan(results))
    with contextlib.closing(_connect(path, read_only=False)) as connection:
        _create_tables(connection)
        rows = connection.execute("SELECT path, size_bytes, changed_ns, inode_changed_ns FROM files").fetchall()
        known: dict[str, Stamp] = {name: (size, changed, inode) for name, size, changed, inode in rows}
        gone = [name for name, stamp in known.items() if present.get(name) != stamp]
        new = [name for name in sorted(present) if known.get(name) != present[name]]
        if not gone and not new:
            return
        connection.begin()
        for table in (*COLUMNS, "files") if gone else ():
            connection.execute(f"DELETE FROM {table} WHERE path IN (SELECT unnest(?))", [gone])  # noqa: S608
        for start in range(0, len(new), _BATCH):
            _add(connection, path.parent, results, {name: present[name] for name in new[start : start + _BATCH]})
        connection.commit()


def _create_tables(connection: "duckdb.DuckDBPyConnection") -> None:
    """Create the tables of an empty index; an index of another version is a duckdb.Error."""
    if connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'version'").fetchone():
        connection.execute(f"SELECT CASE WHEN number != '{_VERSION}' THEN error('other version') END FROM version")  # noqa: S608
        return
    for table, columns in COLUMNS.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
    for name, query in VIEWS.items():
        connection.execute(f"CREATE VIEW {name} AS {query}")
    stamp = "size_bytes BIGINT, changed_ns BIGINT, inode_changed_ns BIGINT"
    connection.execute(f"CREATE TABLE files (path VARCHAR, {stamp}, problem VARCHAR)")
    connection.execute(f"CREATE TABLE version AS SELECT '{_VERSION}' AS number")


def _scan(results: Path) -> Iterator[tuple[str, Stamp]]:
    """Yield the names of the folders that hold records, with the records' stamps."""
    with os.scandir(results) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                # With 100,000 runs most time is spent here; a Path for each would double it.
                status = os.stat(f"{entry.path}/{RECORD_NAME}")  # noqa: PTH116
            except OSError:
                continue
            yield entry.name, (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _add(connection: "duckdb.DuckDBPyConnection", folder: Path, results: Path, stamps: Mapping[str, Stamp]) -> None:
    problems: dict[str, str] = {}
    drafts = {table: folder / f"{INDEX_NAME}.{table}.ndjson" for table in COLUMNS}
    with contextlib.ExitStack() as stack, pause_collector():
        streams = {table: stack.enter_context(draft.open("w", encoding="utf-8")) for table, draft in drafts.items()}
        for name in stamps:
            try:
                rows = rows_of(load_record(results / name), name)
            except RecordError as error:
                problems[name] = " ".join(str(error).split())[:_PROBLEM_CHARACTERS]
                continue
            for table, of_table in rows.items():
                streams[table].writelines(json.dumps(row) + "\n" for row in of_table)
    for table, columns in COLUMNS.items():
        types = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
        source = f"read_json(?, format = 'newline_delimited', columns = {{{types}}})"
        connection.execute(f"INSERT INTO {table} SELECT * FROM {source}", [str(drafts[table])])  # noqa: S608 - our types
        drafts[table].unlink()
    files = [(name, *stamp, problems.get(name)) for name, stamp in stamps.items()]
    connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", files)
