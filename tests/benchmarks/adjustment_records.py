"""The adjusted ratio against the plain one on real sessions of ``ab`` whose arms are identical.

``python -m tests.benchmarks.adjustment_records FOLDER... [--blocks N]`` reads every session under the folders and
prints a row per session and experiment, or per N blocks of it, and what they show together: how often an interval of
95 % misses "no change", how often the looks of ``ab`` call it faster or slower, and the ratio of the standard errors.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

from sdbench.compare.adjustment import Adjusted, weigh_reference
from sdbench.compare.levels import LAUNCHES_PER_BLOCK, Timed, share_session, time_launches
from sdbench.compare.policy import BLOCKS_MIN, MARGIN, Verdict, decide, p_changed
from sdbench.schema.base import Unknown
from sdbench.schema.metrics import latency_s, launches_that_count
from sdbench.schema.record import Record
from sdbench.stats.ratios import LogRatio
from sdbench.store.bundle import find_runs, load_record

CONFIDENCE = 0.95
Arms = tuple[tuple[Timed, ...], tuple[Timed, ...]]


@dataclass(frozen=True)
class Row:
    """A session's experiment, or some blocks of it: the ratios, and the verdicts of ``ab``'s looks on either."""

    name: str
    blocks: int
    ratios: Adjusted
    plain_verdict: Verdict
    verdict: Verdict


def read_rows(folders: Sequence[Path], blocks: int | None) -> Iterator[Row]:
    """Yield the rows of all sessions of which both arms are under the folders."""
    records = [load_record(path) for folder in folders for path in find_runs(folder)]
    for first, second in combinations(records, 2):
        if share_session(first, second):
            a, b = sorted((first, second), key=_arm)
            yield from _rows_of_session(a, b, blocks)


def evaluate(name: str, arms: Arms) -> Row | None:
    """Return the row of blocks that are complete; None for fewer than a verdict needs, or without a reference."""
    numbers = _complete_blocks(arms)
    whole = _weigh(arms)
    if len(numbers) < BLOCKS_MIN or whole is None or isinstance(whole.fit, Unknown):
        return None
    looks = [_weigh(_keep(arms, numbers[:count])) for count in range(BLOCKS_MIN, len(numbers) + 1)]
    known = [look for look in looks if look is not None]
    return Row(
        name,
        len(numbers),
        whole,
        _first_verdict([look.plain for look in known]),
        _first_verdict([look.counts(MARGIN) for look in known]),
    )


def summarize(rows: Sequence[Row]) -> str:
    """Return the table of the rows, and what they show together, as text."""
    lines = ["session, experiment | blocks | plain | adjusted | reference | slope | error ratio | verdict, adjusted"]
    errors, missed, missed_adjusted, used = [], 0, 0, 0
    for row in rows:
        fit, plain = row.ratios.fit, row.ratios.plain
        if isinstance(fit, Unknown):
            continue
        errors.append(fit.ratio.standard_error / plain.standard_error)
        missed += _misses(plain)
        missed_adjusted += _misses(fit.ratio)
        reason = row.ratios.reason_against(MARGIN)
        used += not reason
        changes = (_format(ratio) for ratio in (plain, fit.ratio, fit.reference))
        verdicts = f"{row.plain_verdict}, {row.verdict}{f' ({reason})' if reason else ''}"
        cells = row.name, str(row.blocks), *changes, f"{fit.slope:.2f}", f"{errors[-1]:.2f}", verdicts
        lines.append(" | ".join(cells))
    if not errors:
        return "no session has enough blocks with reference operations"
    count = len(errors)
    alarms, alarms_adjusted = (
        sum(verdict in ("faster", "slower") for verdict in verdicts)
        for verdicts in ([row.plain_verdict for row in rows], [row.verdict for row in rows])
    )
    expected = count * (1 - CONFIDENCE)
    lines += [
        f"{count} sessions; the adjusted ratio is used in {used}; median error ratio {median(errors):.2f}",
        f"{CONFIDENCE:.0%} intervals without 1: plain {missed}, adjusted {missed_adjusted}, {expected:.1f} expected",
        f"false alarms: plain {alarms}, with the adjusted ratio where it may be used {alarms_adjusted}",
    ]
    return "\n".join(lines)


def _rows_of_session(first: Record, second: Record, blocks: int | None) -> Iterator[Row]:
    for a, b in zip(first.results, second.results, strict=False):
        arms = (
            time_launches(launches_that_count(a.outcome), latency_s),
            time_launches(launches_that_count(b.outcome), latency_s),
        )
        numbers = _complete_blocks(arms)
        for index, some in enumerate(_cut(numbers, blocks or max(1, len(numbers)))):
            row = evaluate(f"{first.run_id} {a.planned.label} {index}", _keep(arms, some))
            if row is not None:
                yield row


def _weigh(arms: Arms) -> Adjusted | None:
    return weigh_reference("latency_s", "block", [arms[0]], [arms[1]], requested=True)


def _first_verdict(looks: Sequence[LogRatio]) -> Verdict:
    """What a session ends with: the first look that resolves it, at one experiment."""
    verdicts = (decide(ratio, MARGIN, p_changed(ratio, MARGIN, "block")) for ratio in looks)
    return next((verdict for verdict in verdicts if verdict != "inconclusive"), "inconclusive")


def _complete_blocks(arms: Arms) -> list[int]:
    numbers = [[block for item in timed if (block := _block(item)) is not None] for timed in arms]
    return sorted({number for number in numbers[0] if all(blocks.count(number) == 2 for blocks in numbers)})


def _cut(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


def _keep(arms: Arms, numbers: Sequence[int]) -> Arms:
    first, second = (tuple(item for item in timed if _block(item) in numbers) for timed in arms)
    return first, second


def _block(timed: Timed) -> int | None:
    position = timed[0].position
    return None if position is None else position // LAUNCHES_PER_BLOCK


def _arm(record: Record) -> str:
    return record.session.arm if record.session else ""


def _misses(ratio: LogRatio) -> bool:
    low, high = ratio.interval(CONFIDENCE)
    return not low <= 1 <= high


def _format(ratio: LogRatio) -> str:
    low, high = (100 * (end - 1) for end in ratio.interval(CONFIDENCE))
    return f"{100 * (ratio.value - 1):+.2f} % [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="the adjusted ratio on sessions of ab with identical arms")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="folder with the runs of both arms")
    parser.add_argument("--blocks", type=int, metavar="N", help="cut sessions into parts of N blocks, 7 or more")
    options = parser.parse_args()
    sys.stdout.write(summarize(list(read_rows(options.folders, options.blocks))) + "\n")


if __name__ == "__main__":
    main()
