"""Whether cycles tell a slower clock from slower code: simulated sessions of ``ab`` on a GPU whose clock wanders.

``python -m tests.benchmarks.cycles [TRIES]``
"""

import sys
from random import Random

from sdbench.compare.comparison import compare_records
from sdbench.compare.policy import MARGIN, Judgement
from sdbench.schema.base import Known
from sdbench.schema.outcome import Launch, Succeeded
from sdbench.schema.record import Record, Session
from tests.benchmarks.bars import Bar
from tests.fingerprints import make_fingerprint
from tests.records import make_conditions, make_launch, make_record, make_result

TRIES = 100
FOUND_MIN = 95
BLOCKS = 20
CLOCK_MHZ = 1980.0
# From launch to launch: of what the code takes in cycles, and of the clock.
CODE_NOISE, CLOCK_NOISE = 0.015, 0.01


def measure_cycles(tries: int = TRIES) -> list[Bar]:
    """Return how often slower code and a slower clock are distinguished."""
    code = [compare_session(seed, code=1.05) for seed in range(tries)]
    clock = [compare_session(seed, clock=0.9) for seed in range(tries)]
    of_code = sum(item.verdict == "slower" and explained(item) != "all" for item in code)
    of_clock = sum(item.verdict == "slower" and explained(item) == "all" for item in clock)
    needed = f"{FOUND_MIN} of {TRIES}"
    return [
        Bar("code slower by 5 %, equal clocks", f"found in {of_code} of {tries}", needed, of_code >= 0.95 * tries),
        Bar("clock slower by 10 %, equal code", f"named in {of_clock} of {tries}", needed, of_clock >= 0.95 * tries),
    ]


def explained(judgement: Judgement) -> str:
    """Return how much of the change is the clock's."""
    return judgement.cycles.explained if judgement.cycles else "unknown"


def compare_session(seed: int, *, code: float = 1.0, clock: float = 1.0, blocks: int = BLOCKS) -> Judgement:
    """Return the judgement on a session whose second arm takes ``code`` times the cycles, at ``clock`` times the clock.

    The noise follows from the seed.
    """
    noise = Random(seed)
    arms = (simulate_arm(noise, "a", 1.0, 1.0, blocks), simulate_arm(noise, "b", code, clock, blocks))
    return compare_records([arms[0]], [arms[1]], MARGIN).experiments[0].judgements[0]


def simulate_arm(noise: Random, name: str, code: float, clock: float, blocks: int) -> Record:
    """Return the record of an arm whose launches take 1 s at the stated clock."""
    places = (0, 3) if name == "a" else (1, 2)
    launches = []
    for index in range(2 * blocks):
        clock_ratio = clock * noise.gauss(1, CLOCK_NOISE)
        seconds = code * noise.gauss(1, CODE_NOISE) / clock_ratio
        launches.append(_make_launch(index, seconds, CLOCK_MHZ * clock_ratio, 4 * (index // 2) + places[index % 2]))
    settings = Known(value=(f"arm={name}",))
    return make_record(
        run_id=f"run-{name}",
        device="cuda:0",
        fingerprint=make_fingerprint("cuda:0"),
        results=(make_result(Succeeded(launches=tuple(launches), stop_reason="converged")),),
        session=Session.model_validate({"session_id": "one", "arm": name, "seed": 1, "settings": settings}),
    )


def _make_launch(index: int, seconds: float, clock_mhz: float, position: int) -> Launch:
    conditions = make_conditions("cuda:0", clock_mean_mhz=Known(value=clock_mhz))
    return make_launch(index, seconds, "cuda:0", position=position, conditions=conditions)


if __name__ == "__main__":
    for bar in measure_cycles(int(sys.argv[1]) if len(sys.argv) > 1 else TRIES):
        sys.stdout.write(f"{bar}\n")
