"""The CSV files of the 2022 study's own tool: every dialect is read, three are written.

A row is device, precision (single or half), autocast, xformers, runtime (pytorch or onnx), n_samples, latency (s),
memory (1e9 bytes). Files exist without autocast and xformers, without a header, with a comma at the end of the
header, and with a comma missing in it. A latency of -1 marks a run that was out of memory.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from sdbench.errors import UserError
from sdbench.schema.experiment import Experiment
from sdbench.store.lambda_fields import (
    BYTES_PER_GB,
    FAILURE_MARK,
    PRECISIONS,
    READERS,
    RUNTIMES,
    check_figures,
    has_no_memory_figure,
    make_experiment,
    shown,
)

Dialect = Literal["plain", "header", "full"]

# The study's whole file has 4 kB.
MAX_FILE_BYTES = 10_000_000
STEPS_OF_THE_STUDY = 50
FULL = ("device", "precision", "autocast", "xformers", "runtime", "n_samples", "latency", "memory")
SHORT = tuple(name for name in FULL if name not in ("autocast", "xformers"))

_KNOWN = (*FULL, "steps")
# One version of the tool's writer forgot a comma in the header.
_RUN_TOGETHER = {"xformersruntime": ("xformers", "runtime")}


@dataclass(frozen=True)
class LambdaRow:
    """One figure: latency (s), None where the run was out of memory, and memory (bytes), None where unknown.

    ``autocast_recorded`` is false where the file does not say whether fp16 ran under autocast.
    """

    line: int
    device: str
    experiment: Experiment
    autocast_recorded: bool
    latency_s: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class LambdaTable:
    """The good rows, one line ``FILE:LINE: ...`` for everything else, and how many rows were of other steps."""

    rows: tuple[LambdaRow, ...]
    problems: tuple[str, ...]
    other_steps_count: int


def parse_lambda_csv(content: bytes, name: str, steps: int | None = None) -> LambdaTable:
    """Return the rows of a file; ``name`` stands for it in messages.

    Args:
        content: the file's bytes.
        name: the file's name.
        steps: what to take where the file has no ``steps`` column (50 when None); where it has one, the rows to keep.

    Raises:
        UserError: too large, not text, or a number of steps that no experiment can have.
    """
    text = _decode(content, name)
    lines = [(number, _split(line)) for number, line in enumerate(text.split("\n"), start=1)]
    filled = [(number, fields) for number, fields in lines if any(fields)]
    if not filled:
        return LambdaTable((), (f"{name}:1: no rows; name a file with a row for each figure",), 0)
    first_line, first = filled[0]
    has_header = first[0].lower() == "device"
    try:
        columns = _read_header(first) if has_header else _guess_columns([fields for _, fields in filled])
    except ValueError as problem:
        return LambdaTable((), (f"{name}:{first_line}: {problem}",), 0)
    reader = _Reader(name, columns, _checked_steps(steps))
    for number, fields in filled[has_header:]:
        reader.read(number, fields)
    if not reader.rows and not reader.problems:
        what = f"no row has {steps} steps" if reader.other_steps_count else "a header and no rows"
        reader.problems.append(f"{name}:{first_line}: {what}; name a file with a row for each figure")
    return LambdaTable(tuple(reader.rows), tuple(reader.problems), reader.other_steps_count)


def write_lambda_csv(rows: Sequence[LambdaRow], dialect: Dialect) -> str:
    """Return rows as the tool wrote them: ``plain`` as in 2022, ``header`` with names, ``full`` with all columns.

    ``full`` is what the later files are: a comma ends the header, whole numbers have no fraction.
    """
    columns = FULL if dialect == "full" else SHORT
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if dialect != "plain":
        writer.writerow([*columns, ""] if dialect == "full" else columns)
    for row in rows:
        cells = _cells(row, whole=dialect == "full")
        writer.writerow([cells[column] for column in columns])
    return stream.getvalue()


def _cells(row: LambdaRow, *, whole: bool) -> dict[str, str]:
    experiment = row.experiment
    if row.latency_s is None:
        memory: float | None = FAILURE_MARK
    elif row.memory_bytes is None:
        memory = 0.0 if has_no_memory_figure(row.device, experiment) else None
    else:
        memory = row.memory_bytes / BYTES_PER_GB
    autocast = str(experiment.autocast != "off").upper() if row.autocast_recorded else ""
    return {
        "device": row.device,
        "precision": _word(PRECISIONS, experiment.precision),
        "autocast": autocast,
        "xformers": str(experiment.attention == "xformers").upper(),
        "runtime": _word(RUNTIMES, experiment.backend),
        "n_samples": str(experiment.batch),
        "latency": _number_text(FAILURE_MARK if row.latency_s is None else row.latency_s, whole=whole),
        "memory": "" if memory is None else _number_text(memory, whole=whole),
    }


def _word(table: Mapping[str, Any], value: str) -> str:
    return next(word for word, meaning in table.items() if meaning == value)


def _number_text(value: float, *, whole: bool) -> str:
    text = repr(float(value))
    return text.removesuffix(".0") if whole else text


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
    """The fields of one line; line by line, so that a forgotten quote spoils no other line."""
    try:
        fields = next(csv.reader([line], skipinitialspace=True), [])
    except csv.Error:  # a field over 128 kB: whatever it is, it is no row
        fields = [line]
    return [field.strip() for field in fields]


def _checked_steps(steps: int | None) -> int | None:
    try:
        Experiment(architecture="sd-v1-4", steps=STEPS_OF_THE_STUDY if steps is None else steps)
    except ValidationError as error:
        raise UserError(f"--steps {steps}: {error.errors()[0]['msg']}") from None
    return steps


def _guess_columns(lines: Sequence[list[str]]) -> tuple[str, ...]:
    """The columns of a file without a header: those of its first line that has as many fields as some dialect."""
    for fields in lines:
        for columns in (SHORT, FULL):
            if len(fields) == len(columns) or (len(fields) == len(columns) + 1 and not fields[-1]):
                return columns
    return SHORT


def _read_header(first: list[str]) -> tuple[str, ...]:
    while first and not first[-1]:
        first = first[:-1]
    names = [name for written in first for name in _RUN_TOGETHER.get(written.lower(), (written.lower(),))]
    for name in names:
        if name not in _KNOWN:
            raise ValueError(f"unknown column {shown(name)} in the header; columns are {', '.join(_KNOWN)}")
        if names.count(name) > 1:
            raise ValueError(f"column {shown(name)} is in the header twice; remove one")
    if missing := [name for name in SHORT if name not in names]:
        raise ValueError(f"the header has no column {', '.join(map(repr, missing))}; add what is missing")
    return tuple(names)


def _fit(fields: list[str], count: int) -> list[str]:
    """The fields without the empty one that a comma at the end leaves."""
    if len(fields) == count + 1 and not fields[-1]:
        fields = fields[:-1]
    if len(fields) != count:
        raise ValueError(f"wrong number of columns: {len(fields)} instead of {count}; write one value for each column")
    return fields


class _Reader:
    """Turns the lines of one file into rows and problems."""

    def __init__(self, name: str, columns: tuple[str, ...], steps: int | None) -> None:
        self.name = name
        self.columns = columns
        self.rows: list[LambdaRow] = []
        self.problems: list[str] = []
        self.other_steps_count = 0
        self._asked_steps = steps
        self._first_steps: tuple[int, int] | None = None
        self._line_of: dict[tuple[str, str], int] = {}

    def read(self, number: int, fields: list[str]) -> None:
        """Add the row of a line, or all that is wrong with it."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        try:
            cells = _fit(fields, len(self.columns))
        except ValueError as problem:
            self.problems.append(f"{self.name}:{number}: {problem}")
            return
        for column, text in zip(self.columns, cells, strict=True):
            try:
                values[column] = READERS[column](text)
            except ValueError as problem:
                problems.append(f"{self.name}:{number}: {column} {problem}")
        self.problems += problems
        if problems:
            return
        try:
            if self._is_of_these_steps(number, values):
                self.rows.append(self._row(number, values))
        except ValueError as problem:
            self.problems.append(f"{self.name}:{number}: {problem}")

    def _is_of_these_steps(self, number: int, values: dict[str, Any]) -> bool:
        """Whether the row is wanted; figures of different steps never come together into one table."""
        if "steps" not in values:
            values["steps"] = self._asked_steps or STEPS_OF_THE_STUDY
            return True
        steps = values["steps"]
        if self._asked_steps is not None:
            self.other_steps_count += steps != self._asked_steps
            return bool(steps == self._asked_steps)
        self._first_steps = self._first_steps or (steps, number)
        first, line = self._first_steps
        if steps != first:
            raise ValueError(
                f"mixed steps: {steps} here, {first} on line {line}, and they do not compare; "
                f"import them apart with --steps {steps} and --steps {first}"
            )
        return True

    def _row(self, number: int, values: dict[str, Any]) -> LambdaRow:
        device, experiment = values["device"], make_experiment(values)
        latency_s, memory_bytes = check_figures(device, experiment, values["latency"], values["memory"])
        line = self._line_of.setdefault((device, experiment.experiment_id), number)
        if line != number:
            raise ValueError(f"the same experiment on {shown(device)} is on line {line} already; keep one of them")
        return LambdaRow(
            line=number,
            device=device,
            experiment=experiment,
            # The tool never ran single precision or onnx under autocast.
            autocast_recorded=values.get("autocast") is not None
            or (experiment.precision, experiment.backend) != ("fp16", "pytorch"),
            latency_s=latency_s,
            memory_bytes=memory_bytes,
        )
