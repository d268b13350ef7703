"""The CSV files of the 2022 study's own tool, in every dialect it wrote.

A row is device, precision (single or half), autocast, xformers, runtime (pytorch or onnx), n_samples, latency (s),
memory (1e9 bytes). Files exist without autocast and xformers, without runtime, without a header, with units in the
cells, with a comma at the end of the header, and with a comma missing in it. A latency of -1 marks a run that was out
of memory.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sdbench.errors import UserError
from sdbench.lambda2022.fields import PRECISIONS, READERS, check_values, is_cpu, make_experiment, quote
from sdbench.schema.experiment import STEPS_MAX, Experiment

# The study's file has 4 kB.
MAX_FILE_BYTES = 10_000_000
STEPS_OF_THE_STUDY = 50
FULL = ("device", "precision", "autocast", "xformers", "runtime", "n_samples", "latency", "memory")
SHORT = tuple(name for name in FULL if name not in ("autocast", "xformers"))
# The first version of the tool ran torch only.
EARLY = tuple(name for name in SHORT if name != "runtime")

_KNOWN = (*FULL, "steps")
_EXPECTED = "the 2022 study's tool writes a CSV file with the columns " + ", ".join(FULL)
# One version of the tool's writer forgot a comma in the header.
_RUN_TOGETHER = {"xformersruntime": ("xformers", "runtime")}
_COLUMNS_SHOWN = 8


@dataclass(frozen=True)
class LambdaRow:
    """One result: latency (s), None where the run was out of memory, and memory (bytes), None where unknown.

    ``autocast_recorded`` is false where the file does not record whether fp16 ran under autocast.
    """

    device: str
    experiment: Experiment
    autocast_recorded: bool
    latency_s: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class LambdaTable:
    """The valid rows, one line ``FILE:LINE: ...`` for every problem, and how many rows were of other steps."""

    rows: tuple[LambdaRow, ...]
    problems: tuple[str, ...]
    other_steps_count: int


def parse_lambda_csv(content: bytes, name: str, steps: int | None = None) -> LambdaTable:
    """Return the rows of a file; ``name`` stands for it in messages.

    Args:
        content: the file's bytes.
        name: the file's name.
        steps: the steps of all rows (50 when None), or where the file has such a column, of the rows to take.

    Raises:
        UserError: too large, not text, not a file of the tool, or a number of steps that no experiment can have.
    """
    if steps is not None and steps not in range(1, STEPS_MAX + 1):
        raise UserError(f"--steps {steps}: expected 1 to {STEPS_MAX}")
    text = _decode(content, name)
    if text.lstrip()[:1] in ("{", "["):
        raise UserError(f"{name}: this is JSON; {_EXPECTED}")
    lines = {number: _split(line) for number, line in enumerate(text.split("\n"), start=1)}
    rows = {number: fields for number, fields in lines.items() if any(fields)}
    if not rows:
        return LambdaTable((), (f"{name}:1: no rows; expected one for each result",), 0)
    first_line, first = next(iter(rows.items()))
    has_header = first[0].lower() == "device"
    try:
        columns = _read_header(first) if has_header else _guess_columns(rows.values())
    except ValueError as problem:
        return LambdaTable((), (f"{name}:{first_line}: {problem}",), 0)
    if columns is None:
        shown = ", ".join(first[:_COLUMNS_SHOWN]) + (", ..." if len(first) > _COLUMNS_SHOWN else "")
        raise UserError(f"{name}: this is a file with the columns {quote(shown)}; {_EXPECTED}")
    table = _read_rows(islice(rows.items(), has_header, None), name, columns, steps)
    if not table.rows and not table.problems:
        what = f"no row has {steps} steps" if table.other_steps_count else "a header and no rows"
        return replace(table, problems=(f"{name}:{first_line}: {what}; expected a row for each result",))
    return table


def _decode(content: bytes, name: str) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise UserError(f"{name}: the file is over {MAX_FILE_BYTES:,} bytes, too large for such results; split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{name}: this is a binary file, not UTF-8 text; name a CSV file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split(line: str) -> list[str]:
    """Return the fields of one line; line by line, so that a forgotten quote spoils no other line."""
    try:
        fields = next(csv.reader([line], skipinitialspace=True), [])
    except csv.Error:  # a field over 128 kB: not a row
        fields = [line]
    return [field.strip() for field in fields]


def _guess_columns(rows: Iterable[list[str]]) -> tuple[str, ...] | None:
    """Return the columns of a file without a header: of the dialect that any of its rows fits, or None."""
    for fields in rows:
        for columns in (SHORT, FULL, EARLY):
            has_length = len(fields) == len(columns) or (len(fields) == len(columns) + 1 and not fields[-1])
            if has_length and fields[columns.index("precision")].lower() in PRECISIONS:
                return columns
    return None


def _read_header(first: list[str]) -> tuple[str, ...]:
    while not first[-1]:
        first = first[:-1]
    names = [name for title in map(str.lower, first) for name in _RUN_TOGETHER.get(title, (title,))]
    for name in names:
        if name not in _KNOWN:
            raise ValueError(f"unknown column {quote(name)} in the header; columns are {', '.join(_KNOWN)}")
        if names.count(name) > 1:
            raise ValueError(f"column {quote(name)} is in the header twice; remove one")
    if missing := [name for name in EARLY if name not in names]:
        raise ValueError(f"the header has no column {', '.join(map(repr, missing))}; add what is missing")
    return tuple(names)


def _read_rows(
    lines: Iterable[tuple[int, list[str]]], name: str, columns: tuple[str, ...], steps: int | None
) -> LambdaTable:
    """Return the rows of numbered lines; results of different steps never share a record."""
    rows: dict[tuple[str, str], tuple[int, LambdaRow]] = {}
    problems: list[str] = []
    other_steps_count = 0
    first: tuple[int, int] | None = None
    for number, fields in lines:
        try:
            values = _read_cells(fields, columns, steps or STEPS_OF_THE_STUDY)
            if steps not in (None, values["steps"]):
                other_steps_count += 1
                continue
            first = first or (values["steps"], number)
            _refuse_mixed_steps(values["steps"], *first)
            row = _make_row(values)
        except ValueError as error:
            problems += [f"{name}:{number}: {problem}" for problem in error.args]
            continue
        line, _ = rows.setdefault((row.device, row.experiment.experiment_id), (number, row))
        if line != number:
            what = f"the same experiment on {quote(row.device)} is on line {line} already"
            problems.append(f"{name}:{number}: {what}; keep one of them")
    return LambdaTable(tuple(row for _, row in rows.values()), tuple(problems), other_steps_count)


def _refuse_mixed_steps(steps: int, first: int, line: int) -> None:
    if steps != first:
        raise ValueError(
            f"mixed steps: {steps} here, {first} on line {line}, and they do not compare; "
            f"import them separately with --steps {steps} and --steps {first}"
        )


def _read_cells(cells: list[str], columns: tuple[str, ...], steps: int) -> dict[str, Any]:
    """Return the value of each cell; a ValueError has an argument for each cell that is invalid."""
    count = len(columns)
    # One field more, which is empty, comes after a trailing comma.
    if len(cells) != count and (len(cells) != count + 1 or cells[-1]):
        raise ValueError(f"wrong number of columns: {len(cells)} instead of {count}; write one value for each column")
    values: dict[str, Any] = {"runtime": "pytorch", "steps": steps}
    problems = []
    for column, text in zip(columns, cells, strict=False):
        try:
            values[column] = READERS[column](text)
        except ValueError as problem:
            problems.append(f"{column} {problem}")
    if problems:
        raise ValueError(*problems)
    return values


def _make_row(values: dict[str, Any]) -> LambdaRow:
    device, experiment = values["device"], make_experiment(values)
    latency_s, memory_bytes = check_values(device, experiment, values["latency"], values["memory"])
    # The tool never ran single precision, onnx or a CPU under autocast.
    may_autocast = (experiment.precision, experiment.backend) == ("fp16", "pytorch") and not is_cpu(device)
    recorded = values.get("autocast") is not None or not may_autocast
    return LambdaRow(device, experiment, recorded, latency_s, memory_bytes)
