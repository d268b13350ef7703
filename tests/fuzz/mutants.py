"""Mutants of a valid run: one value or byte changed, with the seal of what it says now or without; for every reader."""

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdbench.cli.main import main as run_command
from sdbench.store.bundle import encode_record, seal_record
from sdbench.store.journal import encode_line
from tests.records import make_record

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, -(2**63), 1e-320, 1e300, "", "x" * 10_000, "\x1b[31m\u202e", "../../x",
    [], {}, [[[[]]]],
    {"status": "known", "value": "x"}, {"status": "unknown", "reason": ""},
)  # fmt: skip
COMMANDS = (
    ("validate", "mutant"),
    ("verify", "mutant"),
    ("report", "mutant", "good", "--format", "markdown"),
    ("compare", "good", "mutant"),
    ("claims", "mutant"),
    ("trend", "mutant", "good"),
    ("diff", "mutant", "good"),
    ("publish", "mutant", "out", "--dry-run"),
    ("query", "SELECT count(*) FROM results", "--results", "."),
)
SECONDS_MAX = 20.0


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value within JSON types."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutate(content: dict[str, Any], chooser: random.Random) -> dict[str, Any]:
    """Return a copy with one value replaced, one key removed or added, or one item repeated."""
    copy: dict[str, Any] = json.loads(json.dumps(content))
    path = chooser.choice([path for path in places(copy) if path])
    parent: Any = copy
    for key in path[:-1]:
        parent = parent[key]
    match chooser.randrange(4):
        case 0 if isinstance(parent, dict):
            del parent[path[-1]]
        case 1 if isinstance(parent, dict):
            parent["unexpected"] = chooser.choice(ODD)
        case 2 if isinstance(parent, list):
            parent.append(parent[path[-1]])
        case _:
            parent[path[-1]] = chooser.choice(ODD)
    return copy


def write_mutant(folder: Path, chooser: random.Random) -> None:
    """Write a mutant as the run ``mutant``: of the record, of its bytes, or of its telemetry."""
    mutant = folder / "mutant"
    shutil.rmtree(mutant, ignore_errors=True)
    mutant.mkdir()
    record = make_record(run_id="mutant").to_json_dict()
    kind = chooser.randrange(4)
    if kind == 0:
        entry = {"experiment_id": "a", "index": 0, "series": [{"name": "t", "unit": "s", "samples": [1.0]}]}
        (mutant / "telemetry.jsonl").write_bytes(encode_line(mutate(entry, chooser)))
        seal_record(mutant, {key: value for key, value in record.items() if key not in ("seal", "files")})
        return
    if kind == 1:
        content = bytearray(json.dumps(record).encode())
        place = chooser.randrange(len(content))
        content[place : place + chooser.randrange(3)] = chooser.choice(
            (b"", b"\0", b"\xff", b"1e999", b"NaN", b"[" * 2000)
        )
        (mutant / "record.json").write_bytes(bytes(content))
        return
    changed = mutate(record, chooser)
    text = json.dumps(changed).encode()
    if kind == 2:
        with contextlib.suppress(ValueError, RecursionError):
            text = encode_record(changed)
    (mutant / "record.json").write_bytes(text)


def run_all(seed: int) -> list[str]:
    """Return what every command did wrong with one mutant, in the current folder."""
    chooser = random.Random(seed)
    write_mutant(Path(), chooser)
    return [problem for command in COMMANDS if (problem := run_one(command, seed))]


def run_one(command: tuple[str, ...], seed: int) -> str | None:
    """Return what a command did wrong: a traceback, more than a few lines, or too long."""
    started_s = time.monotonic()
    errors = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = run_command(list(command))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 2
    except Exception:  # noqa: BLE001 - this is what it looks for
        return f"seed {seed}: {' '.join(command)}: {traceback.format_exc()}"
    if code not in (0, 2, 3, 10, 11, 12):
        return f"seed {seed}: {' '.join(command)}: exit code {code}: {errors.getvalue()[:300]}"
    if "\x1b" in errors.getvalue():
        return f"seed {seed}: {' '.join(command)}: an escape sequence reached the terminal"
    took_s = time.monotonic() - started_s
    return f"seed {seed}: {' '.join(command)}: took {took_s:.1f} s" if took_s > SECONDS_MAX else None


def prepare(folder: Path) -> None:
    """Write the valid run that mutants are compared with."""
    (folder / "good").mkdir()
    (folder / "good" / "record.json").write_bytes(encode_record(make_record(run_id="good").to_json_dict()))


def main() -> int:
    """Run many mutants and print each problem once per kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="command runs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        prepare(Path())
        for number in range(-(-options.cases // len(COMMANDS))):
            for problem in run_all(options.seed + number):
                last = problem.strip().splitlines()[-1]
                kinds[last] += 1
                if kinds[last] == 1:
                    print(problem, flush=True)
    print(f"{options.cases} cases, {sum(kinds.values())} problems of {len(kinds)} kinds")
    return bool(kinds)


if __name__ == "__main__":
    sys.exit(main())
