"""The clock or the code: the same change in seconds and in cycles."""

from typing import Any

import pytest

from sdbench.backends.virtual import VirtualBackend
from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.policy import MARGIN, Judgement
from sdbench.compare.wording import explain, headline, other_ratios
from sdbench.errors import UserError
from sdbench.probes.virtual import VirtualMachine, read_pace, read_virtual_machine, virtual_conditions
from sdbench.schema.base import Known, Unknown
from sdbench.schema.conditions import ThrottleShare
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record
from tests.benchmarks.cycles import compare_session, explained
from tests.fingerprints import make_fingerprint
from tests.records import make_conditions, make_launch, make_record, make_result

NOISE = (0.998, 1.002, 0.997, 1.003, 0.999, 1.001, 1.0, 1.0)
TRIES = 12


def run_at(
    clock_mhz: float | None, latency_s: float, minute: int, *, power_limit_w: float = 450, **conditions: Any
) -> Record:
    """Return a run of eight launches at a clock that alternates in time with another of an odd ``minute``."""
    clock = Unknown(reason="not read") if clock_mhz is None else Known(value=clock_mhz)
    launches = tuple(
        make_launch(
            index,
            latency_s * factor,
            "cuda:0",
            started_utc=f"2026-01-01T10:{2 * index + minute:02d}:00Z",
            conditions=make_conditions("cuda:0", clock_mean_mhz=clock, **conditions),
        )
        for index, factor in enumerate(NOISE)
    )
    fingerprint = make_fingerprint("cuda:0")
    gpus = fingerprint.configuration.gpus
    assert isinstance(gpus, Known)
    limited = tuple(gpu.model_copy(update={"power_limit_w": Known(value=power_limit_w)}) for gpu in gpus.value)
    configuration = fingerprint.configuration.model_copy(update={"gpus": Known(value=limited)})
    return make_record(
        run_id=f"run-{minute}",
        device="cuda:0",
        fingerprint=fingerprint.model_copy(update={"configuration": configuration}),
        results=(make_result(Succeeded(launches=launches, stop_reason="converged")),),
    )


def compare(baseline: Record, candidate: Record) -> tuple[Comparison, Judgement]:
    comparison = compare_records([baseline], [candidate], MARGIN)
    return comparison, comparison.experiments[0].judgements[0]


def test_card_at_1890_of_2625_mhz_takes_the_same_cycles() -> None:
    comparison, judgement = compare(run_at(2625, 1.0, 0), run_at(1890, 2625 / 1890, 1))
    assert judgement.verdict == "slower"
    assert judgement.cycles is not None
    assert judgement.cycles.ratio == pytest.approx(1.0, abs=0.02)
    assert judgement.cycles.clocks_mhz[1] / judgement.cycles.clocks_mhz[0] == pytest.approx(0.72)
    assert judgement.cycles.explained == "all"
    assert explain(judgement).startswith("the clock, not the code: +0.0 % in cycles, 1890 MHz against 2625")
    assert headline(comparison).endswith("; the clock, not the code")
    assert [row[:2] for row in other_ratios(judgement)] == [("latency, in cycles", "+0.00 %")]


def test_slower_code_at_an_equal_clock_is_not_the_clock() -> None:
    comparison, judgement = compare(run_at(2625, 1.0, 0), run_at(2625, 1.05, 1))
    assert (judgement.verdict, explained(judgement)) == ("slower", "none")
    assert explain(judgement) == ""
    assert "clock" not in headline(comparison)
    assert other_ratios(judgement) == ()


def test_change_of_clock_and_code_is_partly_the_clock() -> None:
    _, judgement = compare(run_at(2625, 1.0, 0), run_at(2362.5, 1.05 / 0.9, 1))
    assert (judgement.verdict, explained(judgement)) == ("slower", "part")
    assert explain(judgement).startswith("partly the clock: +5.0 % in cycles")


def test_faster_clock_is_the_clock_as_well() -> None:
    _, judgement = compare(run_at(1890, 2625 / 1890, 0), run_at(2625, 1.0, 1))
    assert (judgement.verdict, explained(judgement)) == ("faster", "all")


def test_same_latency_at_a_lower_clock_explains_nothing_and_shows_the_cycles() -> None:
    _, judgement = compare(run_at(2000, 1.0, 0), run_at(1800, 1.0, 1))
    assert (judgement.verdict, explained(judgement)) == ("same", "none")
    assert [row[:2] for row in other_ratios(judgement)] == [("latency, in cycles", "-10.00 %")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"power_limit_w": 300.0}, "power limit 300 W against 450"),
        (
            {"throttle_shares": Known(value=(ThrottleShare(reason="power limit", ratio=0.5),))},
            "power limit in 50 % of the time against 0",
        ),
        (
            {"memory_clock_mean_mhz": Known(value=1300.0)},
            "memory clock 1300 MHz against 2619, which parts bound by",
        ),
        ({"performance_state": Known(value=2)}, "P-state 2 against 0"),
        ({}, "the driver reports no reason: see nvidia-smi -q -d CLOCK for locked clocks"),
    ],
    ids=str,
)
def test_reason_names_what_set_the_clock(changes: dict[str, Any], words: str) -> None:
    _, judgement = compare(run_at(2625, 1.0, 0), run_at(1890, 2625 / 1890, 1, **changes))
    assert words in explain(judgement)


@pytest.mark.parametrize("clocks", [(None, 2000.0), (2000.0, None), (None, None)])
def test_unknown_clock_leaves_only_the_seconds(clocks: tuple[float | None, float | None]) -> None:
    _, judgement = compare(run_at(clocks[0], 1.0, 0), run_at(clocks[1], 1.1, 1))
    assert (judgement.verdict, judgement.cycles) == ("slower", None)


def test_slower_code_is_found_and_a_slower_clock_named_although_clocks_wander() -> None:
    code = [compare_session(seed, code=1.05) for seed in range(TRIES)]
    clock = [compare_session(seed, clock=0.9) for seed in range(TRIES)]
    assert sum(item.verdict == "slower" and explained(item) != "all" for item in code) >= 0.95 * TRIES
    assert sum(item.verdict == "slower" and explained(item) == "all" for item in clock) >= 0.95 * TRIES


def make_virtual(**options: Any) -> Experiment:
    return Experiment.model_validate({"pipeline": "tiny-sd", "backend": "virtual", "virtual": options})


def test_virtual_machine_at_a_lower_clock_takes_longer_and_says_so() -> None:
    experiment = make_virtual(clock_mhz=2625.0, launch_noise=0.0)
    fast, slow = VirtualMachine(seed=1), VirtualMachine(seed=1, clock=0.72)
    assert read_pace(slow, experiment) == pytest.approx(read_pace(fast, experiment) / 0.72)
    assert virtual_conditions(slow, experiment).clock_mean_mhz == Known(value=1890.0)
    assert VirtualBackend(experiment, slow).describe().device == "virtual"


def test_virtual_machine_without_a_stated_clock_ignores_it() -> None:
    assert read_pace(VirtualMachine(seed=1, clock=0.5), make_virtual()) == read_pace(
        VirtualMachine(seed=1), make_virtual()
    )
    assert isinstance(virtual_conditions(VirtualMachine(seed=1), make_virtual()).clock_mean_mhz, Unknown)


def test_clock_of_a_virtual_machine_reaches_its_workers() -> None:
    machine = read_virtual_machine({"SDBENCH_VIRTUAL": "seed=7 clock=0.72"})
    assert read_virtual_machine(machine.environment()).clock == 0.72
    with pytest.raises(UserError, match=r"clock=0\.72"):
        read_virtual_machine({"SDBENCH_VIRTUAL": "clock=0"})
