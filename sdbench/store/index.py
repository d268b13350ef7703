"""An index of many runs: Parquet files beside them, made from their records and never needed for them to be right.

The JSON of each run is the truth. What is indexed is told by path, size and time of change: a run that changed or is
gone is taken out, a new one added, and the rest is not read again.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.store.facts import read_sealed
from sdbench.store.files import write_whole
from sdbench.store.lock import hold_file
from sdbench.store.names import RECORD_BYTES_MAX, RECORD_NAME

if TYPE_CHECKING:
    import duckdb

# Every sample a row, and every result with the facts of its run.
VIEWS = {
    "samples": "SELECT * EXCLUDE (samples, warmup_count), samples[call + 1] AS value, call < warmup_count AS warmup "
    "FROM (SELECT *, unnest(range(len(samples))) AS call FROM series)",
    "results": "SELECT * FROM experiments JOIN (SELECT * EXCLUDE (device) FROM runs) USING (path, run_id)",
}
TABLES = ("runs", "experiments", "series")
INDEX_FOLDER = ".sdbench-index"
_STATE_NAME = "state.json"
_LOCK_NAME = "lock"
# Changes with the columns: an index of another version is made anew.
_VERSION = 2
# Each segment is a file to open; a merge reads all of them.
_SEGMENTS_MAX = 24
# So many records are held in memory at once.
_RECORDS_A_SEGMENT = 20_000
_PROBLEM_CHARACTERS = 300
# A record is read in part only: the rest of a stranger's may be anything.
_ODD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class Stamp(msgspec.Struct, frozen=True):
    """How a file is told to be the same: size (bytes), time of change (ns) and that of its inode, which nobody sets."""

    size_bytes: int
    changed_ns: int
    inode_changed_ns: int


class Segment(msgspec.Struct):
    """Some runs, by the name of their folder, whose rows are in the files of one name."""

    name: str
    runs: dict[str, Stamp]


class Damaged(msgspec.Struct):
    """A record that cannot be indexed, and why; it is not read again until it changes."""

    stamp: Stamp
    problem: str


class State(msgspec.Struct):
    """What an index holds."""

    version: int = _VERSION
    next_number: int = 0
    segments: list[Segment] = msgspec.field(default_factory=list)
    damaged: dict[str, Damaged] = msgspec.field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """What changed in an index: counts of runs, and the records that could not be read."""

    run_count: int
    added_count: int
    removed_count: int
    problems: tuple[str, ...]


def update_index(results: Path, folder: Path | None = None) -> Update:
    """Make the index of a folder of runs agree with what is there; it lies in that folder unless told otherwise.

    Raises:
        UserError: no such folder.
        EnvironmentProblem: DuckDB is not installed, or the folder is not writable.
    """
    with _locked(results, folder) as place:
        return _update_or_make_anew(results, place)


@contextlib.contextmanager
def current_index(results: Path, folder: Path | None = None) -> "Iterator[tuple[duckdb.DuckDBPyConnection, Update]]":
    """Make the index agree with a folder of runs and yield a database over it; nobody changes it meanwhile.

    Raises:
        UserError: no such folder.
        EnvironmentProblem: DuckDB is not installed, or the folder is not writable.
    """
    with _locked(results, folder) as place:
        update = _update_or_make_anew(results, place)
        with open_index(results, place) as connection:
            yield connection, update


@contextlib.contextmanager
def _locked(results: Path, folder: Path | None) -> Iterator[Path]:
    if not results.is_dir():
        raise UserError(f"{results}: no such folder; name the folder that holds the runs")
    folder = folder or results / INDEX_FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {folder}: {error.strerror}; make {results} writable") from None
    with hold_file(folder / _LOCK_NAME):
        yield folder


def _update_or_make_anew(results: Path, folder: Path) -> Update:
    """Update an index; one that is damaged, or of another DuckDB, is made anew: the records have all of it."""
    connection = connect()
    import duckdb

    try:
        update = _update(connection, results, folder)
        open_index(results, folder).close()
    except duckdb.Error:
        (folder / _STATE_NAME).unlink(missing_ok=True)
        update = _update(connection, results, folder)
    return update


def _update(connection: "duckdb.DuckDBPyConnection", results: Path, folder: Path) -> Update:
    state = _read_state(folder)
    there = dict(_scan(results))
    known = {run: stamp for segment in state.segments for run, stamp in segment.runs.items()}
    gone = {run for run, stamp in known.items() if there.get(run) != stamp}
    state.damaged = {run: damaged for run, damaged in state.damaged.items() if there.get(run) == damaged.stamp}
    new = [run for run in sorted(there) if (run not in known or run in gone) and run not in state.damaged]
    if not gone and not new and (folder / _STATE_NAME).is_file():
        return _report(state, results, 0, 0)
    stale = _take_out(connection, state, folder, gone)
    for start in range(0, len(new), _RECORDS_A_SEGMENT):
        _add(connection, state, folder, results, {run: there[run] for run in new[start : start + _RECORDS_A_SEGMENT]})
    if len(state.segments) > _SEGMENTS_MAX:
        stale += _merge(connection, state, folder)
    # The state comes last: what a crash leaves before is a file that nobody names.
    write_whole(folder / _STATE_NAME, msgspec.json.encode(state))
    _sweep(state, folder)
    return _report(state, results, len(new), len(gone))


def _report(state: State, results: Path, added: int, removed: int) -> Update:
    problems = tuple(f"{results / run}: {damaged.problem}" for run, damaged in sorted(state.damaged.items()))
    return Update(sum(len(segment.runs) for segment in state.segments), added, removed, problems)


def _read_state(folder: Path) -> State:
    try:
        state = msgspec.json.decode((folder / _STATE_NAME).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError):
        return State()
    whole = all(_file(folder, segment, table).is_file() for segment in state.segments for table in TABLES)
    return state if state.version == _VERSION and whole else State()


def _scan(results: Path) -> Iterator[tuple[str, Stamp]]:
    """Yield the folders of runs with the stamps of their records."""
    with os.scandir(results) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                # Of 100,000 runs the time goes here; a Path for each would double it.
                found = os.stat(f"{entry.path}/{RECORD_NAME}")  # noqa: PTH116
            except OSError:
                continue
            yield entry.name, Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _file(folder: Path, segment: Segment, table: str) -> Path:
    return folder / f"{segment.name}-{table}.parquet"


def _take_out(connection: "duckdb.DuckDBPyConnection", state: State, folder: Path, gone: set[str]) -> list[Segment]:
    """Write the segments that hold runs which are gone anew without them; return the old ones."""
    stale = [segment for segment in state.segments if gone & set(segment.runs)]
    for segment in stale:
        kept = Segment(_next_name(state), {run: stamp for run, stamp in segment.runs.items() if run not in gone})
        state.segments.remove(segment)
        if kept.runs:
            for table in TABLES:
                source = "SELECT * FROM read_parquet(?) WHERE NOT list_contains(?, path)"
                _copy(
                    connection, source, [str(_file(folder, segment, table)), sorted(gone)], _file(folder, kept, table)
                )
            state.segments.append(kept)
    return stale


def _merge(connection: "duckdb.DuckDBPyConnection", state: State, folder: Path) -> list[Segment]:
    stale = state.segments
    merged = Segment(_next_name(state), {run: stamp for segment in stale for run, stamp in segment.runs.items()})
    for table in TABLES:
        files = [str(_file(folder, segment, table)) for segment in stale]
        _copy(connection, "SELECT * FROM read_parquet(?)", [files], _file(folder, merged, table))
    state.segments = [merged]
    return stale


def _add(
    connection: "duckdb.DuckDBPyConnection", state: State, folder: Path, results: Path, new: dict[str, Stamp]
) -> None:
    """Add records that are new; those that cannot be read, or hold what no column takes, are noted."""
    import duckdb

    try:
        _add_segment(connection, state, folder, results, new)
    except (duckdb.DataError, duckdb.InvalidInputException) as error:
        # A stranger's record with a text for a number: look for it by halves.
        runs = sorted(new)
        if len(runs) == 1:
            # DuckDB names its own draft and options first and last; between them is what is wrong.
            text = str(error).partition("\n")[0].rpartition(", in line ")[2][:_PROBLEM_CHARACTERS]
            state.damaged[runs[0]] = Damaged(new[runs[0]], f"cannot be indexed: {text}")
            return
        for half in (runs[: len(runs) // 2], runs[len(runs) // 2 :]):
            _add(connection, state, folder, results, {run: new[run] for run in half})


def _add_segment(
    connection: "duckdb.DuckDBPyConnection", state: State, folder: Path, results: Path, new: dict[str, Stamp]
) -> None:
    """Read records and write their rows as a segment."""
    # What builds rows needs the models of the schema; what asks does not.
    from sdbench.store import index_tables

    segment = Segment(_next_name(state), {})
    drafts = {table: folder / f"{segment.name}-{table}.ndjson" for table in TABLES}
    encoder = msgspec.json.Encoder()
    streams = {table: draft.open("wb") for table, draft in drafts.items()}
    try:
        for run, stamp in new.items():
            try:
                record = read_sealed(_read_bytes(results / run / RECORD_NAME), f"{run}/{RECORD_NAME}")
                lines = {table: encoder.encode_lines(rows) for table, rows in index_tables.rows_of(record, run).items()}
            except (RecordError, OSError) as error:
                state.damaged[run] = Damaged(stamp, str(error))
                continue
            except _ODD as error:
                text = f"not a record as sdbench writes it ({type(error).__name__}: {error})"
                state.damaged[run] = Damaged(stamp, text[:_PROBLEM_CHARACTERS])
                continue
            segment.runs[run] = stamp
            for table, encoded in lines.items():
                streams[table].write(encoded)
    finally:
        for stream in streams.values():
            stream.close()
    if segment.runs:
        for table, columns in index_tables.COLUMNS.items():
            types = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
            # The types are ours.
            source = f"SELECT * FROM read_json(?, format = 'newline_delimited', columns = {{{types}}})"  # noqa: S608
            _copy(connection, source, [str(drafts[table])], _file(folder, segment, table))
        state.segments.append(segment)
    for draft in drafts.values():
        draft.unlink()


def _copy(connection: "duckdb.DuckDBPyConnection", query: str, values: list[Any], path: Path) -> None:
    quoted = str(path).replace("'", "''")
    connection.execute(f"COPY ({query}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)", values)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_bytes(path: Path) -> bytes:
    if path.stat().st_size > RECORD_BYTES_MAX:
        raise RecordError(f"{path}: too large for a record")
    return path.read_bytes()


def _next_name(state: State) -> str:
    state.next_number += 1
    return f"{state.next_number:06d}"


def _sweep(state: State, folder: Path) -> None:
    """Remove files that no segment names."""
    named = {_file(folder, segment, table).name for segment in state.segments for table in TABLES}
    for path in folder.iterdir():
        if path.suffix in (".parquet", ".ndjson") and path.name not in named:
            path.unlink(missing_ok=True)


def connect() -> "duckdb.DuckDBPyConnection":
    """Return a database in memory.

    Raises:
        EnvironmentProblem: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError:
        msg = "the index needs DuckDB, which is not installed; install the extra: pip install 'sdbench[query]'"
        raise EnvironmentProblem(msg) from None
    return duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})


def open_index(results: Path, folder: Path | None = None) -> "duckdb.DuckDBPyConnection":
    """Return a database with the tables and views of a folder's index, which can read nothing else.

    Raises:
        EnvironmentProblem: DuckDB is not installed.
    """
    folder = folder or results / INDEX_FOLDER
    state, connection = _read_state(folder), connect()
    files = {table: [str(_file(folder, segment, table)) for segment in state.segments] for table in TABLES}
    _restrict(connection, [file for of_table in files.values() for file in of_table])
    for table in TABLES:
        if files[table]:
            listed = ", ".join(_quote(file) for file in files[table])
            # A view takes no parameters; names of files are quoted.
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{listed}])")  # noqa: S608
        else:
            from sdbench.store.index_tables import COLUMNS

            columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS[table].items())
            connection.execute(f"CREATE TABLE {table} ({columns})")
    for name, query in VIEWS.items():
        connection.execute(f"CREATE VIEW {name} AS {query}")
    connection.execute("SET lock_configuration = true")
    return connection


def _restrict(connection: "duckdb.DuckDBPyConnection", files: Iterable[str]) -> None:
    """Let a query read the index and nothing else of the machine: it may come from somebody else's page."""
    listed = ", ".join(_quote(file) for file in files)
    connection.execute(f"SET allowed_paths = [{listed}]")
    # It could read and write there too.
    connection.execute("SET temp_directory = ''")
    connection.execute("SET enable_external_access = false")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
