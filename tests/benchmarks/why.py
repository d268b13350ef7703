"""Whether the operator that was made slower is ranked first, with real tables of a real pipeline.

``python -m tests.benchmarks.why TRIES FOLDER``: of each kind of operator the calls of both arms are timed once, in ABBA
blocks in one process until there is a verdict. Each trial then profiles both arms again, because one profiled call is
what is noisy. The records stay in the folder, and what it has is not measured again.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from sdbench.compare.comparison import ExperimentComparison, compare_records
from sdbench.compare.policy import BLOCKS_MIN, MARGIN
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Launch, Series
from sdbench.schema.record import Record
from sdbench.store.cache_folder import cache_folder
from tests.benchmarks.bars import Bar, format_table
from tests.benchmarks.slow_operator import KINDS, SlowOperator
from tests.operator_tables import make_arm_record
from tests.records import make_experiment, make_launch

TRIES = 20
FIRST_MIN = 19
TOP_ROWS, TOP_MIN_SHARE = 3, 0.9
BLAMED_MAX_SHARE = 0.2
# What is added to a call (ratio): 10 % or more.
SLOWDOWN = 0.12
_CALLS = 2
# A busy machine needs more blocks for a verdict.
_BLOCKS_MAX = 16


def measure_why(tries: int = TRIES, folder: Path | None = None) -> list[Bar]:
    """Return how often the slowed operator leads, how much three rows explain, and how often A/A blames one."""
    with tempfile.TemporaryDirectory() as own:
        trials = list(_try_all(tries, folder or Path(own)))
    bars = []
    for kind, (_, name) in KINDS.items():
        slowed = [item for tried, is_slow, item in trials if tried == kind and is_slow]
        ranked = [item.why.families[0].name for item in slowed if item.why.families]
        shares = [sum(row.share for row in item.why.rows[:TOP_ROWS]) for item in slowed if item.why.rows]
        first = ranked.count(name)
        needed = f"{FIRST_MIN} of {TRIES}"
        title = f"why: {SLOWDOWN:.0%} in {kind}"
        bars += [
            Bar(f"{title}: ranked first", f"{first} of {len(slowed)}", needed, first >= FIRST_MIN / TRIES * tries),
            Bar(
                f"{title}: the first three rows explain, median",
                f"{median(shares):.0%}" if shares else "nothing",
                f"{TOP_MIN_SHARE:.0%}",
                bool(shares) and median(shares) >= TOP_MIN_SHARE,
            ),
        ]
    same = [item for _, is_slow, item in trials if not is_slow]
    inconclusive = [item for item in same if item.judgements[0].verdict not in ("slower", "faster")]
    blamed = sum(
        any(part.share > BLAMED_MAX_SHARE for part in (*item.why.families, *item.why.rows)) for item in inconclusive
    )
    return [
        *bars,
        Bar(
            "why: A/A, an operator is blamed",
            f"{blamed} of {len(inconclusive)} not shown to differ ({len(same)} tried)",
            "0",
            blamed == 0,
        ),
    ]


def _try_all(tries: int, folder: Path) -> Iterator[tuple[str, bool, ExperimentComparison]]:
    """Yield each trial: the kind of operator, whether it was slowed, and the comparison."""
    from sdbench.backends.pytorch import import_libraries

    import_libraries()
    folder.mkdir(parents=True, exist_ok=True)
    arms: dict[str, Arms] = {}
    for number in range(tries):
        for index, kind in enumerate(KINDS):
            # As many A/A trials in all as slowed ones of a kind.
            for is_slow in (True, False) if number % len(KINDS) == index else (True,):
                path = folder / f"{kind.replace(' ', '-')}-{'slow' if is_slow else 'same'}-{number}.json"
                if not path.exists():
                    if kind not in arms:
                        arms[kind] = Arms(kind, make_experiment(height=64, width=64, steps=2))
                    records = arms[kind].measure(slow=is_slow)
                    path.write_text(json.dumps([record.to_json_dict() for record in records]))
                first, second = (
                    Record.model_validate_json(json.dumps(record)) for record in json.loads(path.read_text())
                )
                yield kind, is_slow, _compare(first, second)


def _compare(first: Record, second: Record) -> ExperimentComparison:
    return compare_records([first], [second], MARGIN).experiments[0]


class _Clock:
    """The CPU time of this process: other programs hardly change it, so that few blocks give a verdict.

    The tables are the profiler's, by the time on the clock.
    """

    def now_s(self) -> float:
        """Return a reading (s)."""
        return time.process_time()


class Arms:
    """A pipeline whose calls are made with and without a slow operator."""

    def __init__(self, kind: str, experiment: Experiment) -> None:
        """Open the pipeline, and choose how much slower the operator becomes."""
        from sdbench.backends.pytorch import open_backend

        self.clock = _Clock()
        self._timed: dict[bool, tuple[list[Launch], list[Launch]]] = {}
        self.backend = open_backend(experiment, "cpu", cache_folder(), 1)
        self.operator = SlowOperator(kind)
        with self.operator.replaced():
            self.operator.calibrate(self._call, SLOWDOWN)

    def _call(self) -> float:
        started_s = self.clock.now_s()
        self.backend.generate()
        return self.clock.now_s() - started_s

    def measure(self, *, slow: bool) -> tuple[Record, Record]:
        """Return the records of both arms, the second one slowed, whose calls are timed once and profiled each time."""
        with self.operator.replaced():
            if slow not in self._timed:
                self._timed[slow] = self._time(slow=slow)
            profiled = [
                self._profile(launches, slow=slow and bool(arm)) for arm, launches in enumerate(self._timed[slow])
            ]
        return make_arm_record("a", profiled[0]), make_arm_record("b", profiled[1])

    def _time(self, *, slow: bool) -> tuple[list[Launch], list[Launch]]:
        """Return the launches of both arms, in ABBA blocks until there is a verdict."""
        launches: tuple[list[Launch], list[Launch]] = ([], [])
        for block in range(_BLOCKS_MAX if slow else BLOCKS_MIN):
            order = (0, 1, 1, 0) if block % 2 == 0 else (1, 0, 0, 1)
            for place, arm in enumerate(order):
                self.operator.slow = slow and arm == 1
                launches[arm].append(self._launch(len(launches[arm]), 4 * block + place))
            records = make_arm_record("a", launches[0]), make_arm_record("b", launches[1])
            if block + 1 >= BLOCKS_MIN and _compare(*records).judgements[0].verdict == "slower":
                break
        return launches

    def _profile(self, launches: Sequence[Launch], *, slow: bool) -> list[Launch]:
        self.operator.slow = slow
        table = self.backend.profile_operators(self.clock).operators
        return [launches[0].model_copy(update={"operators": table}), *launches[1:]]

    def _launch(self, index: int, position: int) -> Launch:
        observation = self.backend.observe(self.clock)
        samples = [observation.phases_s["total"], *(self._call() for _ in range(_CALLS))]
        parts = {"denoise_step": observation.denoise_steps_s} | {
            name: (phase_s,) for name, phase_s in observation.phases_s.items()
        }
        series = [Series(name=f"phase.{name}", unit="s", samples=values) for name, values in parts.items()]
        latency = Series(name="latency", unit="s", samples=tuple(samples), warmup_count=1)
        return make_launch(index, position=position, series=(latency, *series))


if __name__ == "__main__":
    sys.stdout.write(format_table(measure_why(int(sys.argv[1]), Path(sys.argv[2]))) + "\n")
