"""Verdicts on made-up records: what is a unit, what caps a verdict, what makes two runs incomparable."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from sdbench.compare.comparability import find_other_work
from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.policy import decide, p_changed, runs_missing, worst
from sdbench.schema.base import Known
from sdbench.schema.operators import OperatorRow, OperatorTable
from sdbench.schema.outcome import Check, Launch, ReferenceResult, Succeeded
from sdbench.schema.record import Record, Result, Session
from sdbench.schema.work import DENOISER_BATCH_CHECK
from sdbench.stats.ratios import LogRatio
from tests.fingerprints import make_fingerprint
from tests.records import (
    make_conditions,
    make_environment,
    make_experiment,
    make_failed,
    make_launch,
    make_library,
    make_record,
    make_result,
    make_skipped,
    make_succeeded,
    make_work,
)

# Launches that vary by about 1 %, with a mean of 1 exactly.
NOISE = (0.99, 1.01, 0.985, 1.015, 0.995, 1.005, 1.0, 1.0)
DAY = "2026-01-{day:02d}T10:{minute:02d}:00Z"


def make_launches(latency_s: float, *, day: int, noise: Sequence[float] = NOISE, **changes: Any) -> tuple[Launch, ...]:
    return tuple(
        make_launch(index, latency_s * factor, started_utc=DAY.format(day=day, minute=index), **changes)
        for index, factor in enumerate(noise)
    )


def run_of(latency_s: float, *, day: int = 1, driver: str | None = None, options: Any = None, **changes: Any) -> Record:
    outcome = Succeeded(launches=make_launches(latency_s, day=day, **changes), stop_reason="max_launches")
    return record_of(make_result(outcome, **(options or {})), day=day, driver=driver)


def record_of(*results: Result, day: int = 1, driver: str | None = None, **changes: Any) -> Record:
    device = changes.pop("device", "cuda:0")
    fingerprint = make_fingerprint(device)
    if driver is not None:
        software = fingerprint.software.model_copy(update={"gpu_kernel_driver": Known(value=driver)})
        state = fingerprint.state.model_copy(update={"boot_hmac": Known(value=f"{day:032d}")})
        fingerprint = fingerprint.model_copy(
            update={"software": software, "state": state, "software_sha256": f"{abs(hash(driver)):064x}"[:64]}
        )
    return make_record(run_id=f"run-{day}", results=results, fingerprint=fingerprint, device=device, **changes)


def latency_of(comparison: Comparison, index: int = 0) -> Any:
    return comparison.experiments[index].judgements[0]


def interleaved_launches(latency_s: float, arm: int, blocks: int, *, noise: float = 0.003) -> tuple[Launch, ...]:
    """Two launches a block for an arm of ABBA, with a small wobble from block to block."""
    positions = [(block * 4 + place) for block in range(blocks) for place in ((0, 3), (1, 2))[arm]]
    return tuple(
        make_launch(index, latency_s * (1 + noise * math.sin(position)), position=position)
        for index, position in enumerate(positions)
    )


def session_of(latency_s: float, arm: int, blocks: int = 7, **options: Any) -> Record:
    name = "ab"[arm]
    outcome = Succeeded(launches=interleaved_launches(latency_s, arm, blocks), stop_reason="converged")
    return make_record(
        run_id=f"run-{name}",
        results=(make_result(outcome, **options),),
        session=arm_of_session(name),
    )


def arm_of_session(name: str, session_id: str = "one") -> Session:
    settings = Known(value=(f"threads={name}",))
    return Session.model_validate({"session_id": session_id, "arm": name, "seed": 1, "settings": settings})


def test_one_session_each_caps_the_verdict_however_large_the_ratio() -> None:
    comparison = compare_records([run_of(1.0, day=1, driver="1")], [run_of(1.4, day=2, driver="2")], 0.02)
    judgement = latency_of(comparison)
    assert judgement.verdict == comparison.verdict == "inconclusive"
    assert judgement.ratio == pytest.approx(1.4, rel=1e-3)
    assert "session variance unidentified" in judgement.reasons[0]
    # Two sessions that vary by d differ by sqrt(2) d.
    assert f"{math.log(1.4) / math.sqrt(2):.1%}" in judgement.reasons[0]
    assert judgement.more_units is None


@pytest.mark.parametrize(
    ("ratio", "error", "runs"), [(1.4, 0.005, 1), (1.05, 0.005, 2), (1.05, 0.02, 5), (1.02, 0.005, None)]
)
def test_runs_that_resolve_one_run_each_are_the_fewest_at_the_variance_of_the_launches(
    ratio: float, error: float, runs: int | None
) -> None:
    measured = LogRatio(math.log(ratio), error, 10)
    assert runs_missing(measured, 0.02, 1) == runs
    if runs:
        guess = LogRatio(measured.log_value, error / math.sqrt(runs + 1), 2 * runs)
        assert decide(guess, 0.02, p_changed(guess, 0.02, "session")) == "slower"


def test_repeated_sessions_identify_the_variance_and_give_a_verdict() -> None:
    baseline = [run_of(1.0 * pace, day=day, driver="1") for day, pace in enumerate((1.0, 1.004, 0.996), start=1)]
    candidate = [run_of(1.1 * pace, day=day, driver="2") for day, pace in enumerate((1.0, 1.004, 0.996), start=4)]
    judgement = latency_of(compare_records(baseline, candidate, 0.02))
    assert (judgement.verdict, judgement.level, judgement.units) == ("slower", "session", (3, 3))
    assert judgement.low > 1.02
    swapped = latency_of(compare_records(candidate, baseline, 0.02))
    assert swapped.verdict == "faster"
    assert swapped.ratio == pytest.approx(1 / judgement.ratio)


def test_session_variance_is_learned_from_other_runs_of_the_same_machine() -> None:
    runs = [run_of(1.0, day=1, driver="1")], [run_of(1.1, day=2, driver="2")]
    known = [run_of(pace, day=day, driver="0") for day, pace in enumerate((1.0, 1.004, 0.996, 1.002, 0.998), start=3)]
    assert latency_of(compare_records(*runs, 0.02, known=known)).verdict == "slower"
    wild = [run_of(pace, day=day, driver="0") for day, pace in enumerate((1.0, 1.2, 0.8, 1.1, 0.9), start=3)]
    assert latency_of(compare_records(*runs, 0.02, known=wild)).verdict == "inconclusive"


def test_runs_of_one_boot_are_one_session_when_drivers_differ() -> None:
    same_boot = [run_of(1.0, day=1, driver="1"), run_of(1.001, day=1, driver="1")]
    same_boot[1] = same_boot[1].model_copy(update={"run_id": "run-again"})
    other = [run_of(1.1, day=2, driver="2"), run_of(1.1, day=2, driver="2").model_copy(update={"run_id": "run-too"})]
    assert "unidentified" in latency_of(compare_records(same_boot, other, 0.02)).reasons[0]


def test_interleaved_arms_are_judged_by_blocks() -> None:
    comparison = compare_records([session_of(1.0, 0)], [session_of(1.1, 1)], 0.02)
    judgement = latency_of(comparison)
    assert (judgement.verdict, judgement.level, judgement.units) == ("slower", "block", (7, 7))
    assert judgement.ratio == pytest.approx(1.1, rel=5e-3)
    assert latency_of(compare_records([session_of(1.0, 0)], [session_of(1.0, 1)], 0.02)).verdict == "same"


def test_arms_of_a_session_join_by_position_though_their_options_differ() -> None:
    comparison = compare_records([session_of(1.0, 0, threads=1)], [session_of(1.1, 1, threads=2)], 0.02)
    assert comparison.unmatched == ()
    # It is named by what the arms have in common.
    assert comparison.experiments[0].label == make_result(make_succeeded()).planned.label


def test_too_few_blocks_are_inconclusive_and_say_how_many_are_missing() -> None:
    judgement = latency_of(compare_records([session_of(1.0, 0, 3)], [session_of(1.1, 1, 3)], 0.02))
    assert judgement.verdict == "inconclusive"
    assert judgement.reasons == ("3 of at least 7 blocks",)
    assert judgement.more_units == 4
    assert judgement.more_s > 0


def test_a_block_with_a_throttled_launch_does_not_count() -> None:
    a, b = session_of(1.0, 0, 8), session_of(1.1, 1, 8)
    outcome = a.results[0].outcome
    assert isinstance(outcome, Succeeded)
    first = outcome.launches[0].model_copy(update={"throttled": Known(value=True)})
    slowed = Succeeded(launches=(first, *outcome.launches[1:]), stop_reason="max_launches")
    a = a.model_copy(update={"results": (a.results[0].model_copy(update={"outcome": slowed}),)})
    assert latency_of(compare_records([a], [b], 0.02)).units == (7, 7)


def test_runs_whose_launches_alternate_in_time_are_judged_by_launches() -> None:
    launches = [make_launches(latency_s, day=1) for latency_s in (1.0, 1.1)]
    shifted = tuple(
        launch.model_copy(update={"started_utc": launch.started_utc.replace(":00Z", ":30Z")}) for launch in launches[1]
    )
    runs = [
        with_boot(record_of(make_result(Succeeded(launches=each, stop_reason="max_launches")), day=day), boot)
        for day, each, boot in ((1, launches[0], "1"), (2, shifted, "1"), (2, shifted, "2"))
    ]
    judgement = latency_of(compare_records([runs[0]], [runs[1]], 0.02))
    assert (judgement.verdict, judgement.level) == ("slower", "launch")
    # Launches of two machines, or of two boots, are not interleaved whatever their clocks show.
    assert "unidentified" in latency_of(compare_records([runs[0]], [runs[2]], 0.02)).reasons[0]


def with_boot(record: Record, boot: str) -> Record:
    state = record.fingerprint.state.model_copy(update={"boot_hmac": Known(value=boot * 32)})
    return record.model_copy(update={"fingerprint": record.fingerprint.model_copy(update={"state": state})})


def test_blocks_of_several_sessions_of_two_arms_are_pooled() -> None:
    runs = [[session_of(latency_s, arm)] for arm, latency_s in enumerate((1.0, 1.1))]
    for arm, name in enumerate("ab"):
        more = {"session": arm_of_session(name, "two"), "run_id": f"more-{name}"}
        runs[arm].append(runs[arm][0].model_copy(update=more))
    comparison = compare_records(runs[0], runs[1], 0.02)
    judgement = latency_of(comparison)
    assert (judgement.verdict, judgement.level, judgement.units) == ("slower", "block", (14, 14))
    assert comparison.treatments == ("baseline: threads=a", "candidate: threads=b")


def test_launches_that_were_all_throttled_give_no_verdict() -> None:
    runs = [session_of(1.0, 0), session_of(1.1, 1)]
    for index, record in enumerate(runs):
        outcome = record.results[0].outcome
        assert isinstance(outcome, Succeeded)
        slowed = tuple(x.model_copy(update={"throttled": Known(value=True)}) for x in outcome.launches)
        result = record.results[0].model_copy(update={"outcome": Succeeded(launches=slowed, stop_reason="budget")})
        runs[index] = record.model_copy(update={"results": (result,)})
    judgement = latency_of(compare_records([runs[0]], [runs[1]], 0.02))
    assert (judgement.verdict, judgement.more_units) == ("inconclusive", None)
    assert "every launch of the baseline or of the candidate was throttled" in judgement.reasons


def test_what_neither_could_run_is_listed_and_fails_nothing() -> None:
    skipped = make_result(make_skipped(), batch=2)
    runs = [run_of(1.0), run_of(1.0, day=2)]
    both = [record.model_copy(update={"results": (*record.results, skipped)}) for record in runs]
    comparison = compare_records([both[0]], [both[1]], 0.02)
    assert len(comparison.experiments) == len(comparison.on_neither) == 1
    assert comparison.verdict == compare_records([runs[0]], [runs[1]], 0.02).verdict


def test_one_incomparable_experiment_makes_the_whole_so_unless_one_is_slower() -> None:
    assert worst(["same", "incomparable", "inconclusive"]) == "incomparable"
    assert worst(["slower", "incomparable"]) == "slower"
    assert worst(["faster", "same"]) == "faster"


def test_huge_numbers_are_compared_without_an_accident() -> None:
    runs = [run_of(latency_s, day=day, driver="1") for day, latency_s in ((1, 0.1), (2, 1e29))]
    again = [record.model_copy(update={"run_id": f"again-{record.run_id}"}) for record in runs]
    judgement = latency_of(compare_records([runs[0], again[0]], [runs[1], again[1]], 0.02))
    assert math.isfinite(judgement.ratio)
    assert math.isfinite(judgement.high)


def test_one_launch_each_is_inconclusive_with_the_reason() -> None:
    judgement = latency_of(compare_records([run_of(1, noise=(1,))], [run_of(1, day=2, noise=(1,))], 0.02))
    assert judgement.verdict == "inconclusive"
    assert "one launch has no interval" in judgement.reasons[0]
    assert judgement.low is None


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (make_failed(), "candidate: failed"),
        (make_skipped(), "candidate: skipped, "),
        (
            ReferenceResult(
                latency_s=1.0,
                memory_bytes=Known(value=1),
                memory_meaning="any",
                method="any",
                caveats=(),
            ),
            "candidate: a reference result without samples: informational",
        ),
    ],
)
def test_what_was_not_measured_is_incomparable(outcome: Any, reason: str) -> None:
    comparison = compare_records(
        [record_of(make_result(make_succeeded()))], [record_of(make_result(outcome), day=2)], 0.02
    )
    assert comparison.verdict == "incomparable"
    assert latency_of(comparison).reasons[0].startswith(reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": {"weights_digest": "other"}}, "different weights"),
        ({"environment": {"work": make_work(denoiser_calls=9)}}, "5 and 9 denoiser calls"),
        ({"environment": {"work": make_work(latent_tokens=16)}}, "64 and 16 latent tokens"),
        (
            {"environment": {"work": make_work(text_tokens={"text_encoder": 77, "text_encoder_2": 256})}},
            "77 and 77 + 256 text tokens",
        ),
        (
            {"checks": (Check(name=DENOISER_BATCH_CHECK, expected="1", observed="1", passed=True),)},
            "2 and 1 samples in a denoiser call, because of guidance",
        ),
        ({"batch": 2}, "batches of 1 and 2"),
        ({"images": "not finite"}, "candidate: finite: 0 of 8 images finite"),
        ({"foreign": 2}, "candidate: foreign GPU processes: at most 2 computed in a launch"),
    ],
)
def test_other_work_or_a_failed_gate_is_incomparable(changes: dict[str, Any], reason: str) -> None:
    plain = make_launch()
    fields: dict[str, Any] = dict(changes)
    if "environment" in fields:
        fields["environment"] = plain.environment.model_copy(update=fields["environment"])
    if "images" in fields:
        fields["images"] = tuple(image.model_copy(update={"finite": False}) for image in plain.images)
    if "foreign" in fields:
        count = Known(value=fields.pop("foreign"))
        fields["conditions"] = make_conditions("cuda:0", foreign_gpu_process_count=count)
    guided = (Check(name=DENOISER_BATCH_CHECK, expected="2", observed="2", passed=True),)
    baseline = run_of(1.0, checks=guided) if "checks" in fields else run_of(1.0)
    comparison = compare_records([baseline], [run_of(1.0, day=2, **fields)], 0.02)
    assert comparison.verdict == "incomparable"
    assert any(reason in text for text in latency_of(comparison).reasons)


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"pipeline": "tiny-flux"}, "tiny-flux"),
        ({"config": {"unet.layers_per_block": 1}}, "tiny-sd layers_per_block=1"),
    ],
)
def test_arms_of_two_pipelines_are_incomparable(options: dict[str, Any], title: str) -> None:
    results = [make_result(make_succeeded(1.0), **given) for given in ({}, options)]
    records = [
        make_record(run_id=f"run-{arm}", results=(result,), session=arm_of_session(arm))
        for arm, result in zip("ab", results, strict=True)
    ]
    comparison = compare_records(records[:1], records[1:], 0.02)
    assert latency_of(comparison).reasons == (f"pipelines tiny-sd and {title}",)
    work = find_other_work(*(result.planned.experiment for result in results))
    assert work == (tuple(options), f"pipelines tiny-sd and {title}")


@pytest.mark.parametrize(
    ("pipeline", "option", "values", "why"),
    [
        ("tiny-flux", "max_sequence_length", (32, 64), "prompts of 32 and 64 tokens"),
        ("tiny-sd3", "guidance_scale", (1.0, 3.0), "1 and 2 samples of an image in a denoiser call"),
        ("tiny-flux", "guidance_scale", (1.0, 3.0), None),
    ],
)
def test_option_that_changes_the_work_of_some_pipelines_is_other_work_there(
    pipeline: str, option: str, values: tuple[Any, Any], why: str | None
) -> None:
    arms = [make_experiment(pipeline=pipeline, **{option: value}) for value in values]
    assert find_other_work(*arms) == (None if why is None else ((option,), why))


def test_another_count_of_flop_is_no_reason_against_a_comparison() -> None:
    counted = make_environment(work=make_work(flop_per_image={"unet": 1}))
    assert latency_of(compare_records([run_of(1.0)], [run_of(1.0, day=2, environment=counted)], 0.02)).ratio


def test_drawn_token_ids_against_real_ones_are_a_difference_of_the_protocol() -> None:
    drawn = make_environment(drawn_tokens={"tokenizer_2": 256})
    comparison = compare_records([run_of(1.0)], [run_of(1.0, day=2, environment=drawn)], 0.02)
    (difference,) = (item for item in comparison.differences if item.field == "protocol.token_ids")
    assert (difference.baseline, difference.candidate) == ("of the prompt", "drawn for tokenizer_2")


def test_virtual_and_real_runs_never_mix() -> None:
    virtual = run_of(1.0, day=2).model_copy(update={"origin": "virtual"})
    comparison = compare_records([run_of(1.0)], [virtual], 0.02)
    assert latency_of(comparison).reasons == ("simulated results in one of the two only",)


def test_experiments_that_only_one_side_has_are_listed() -> None:
    both, mine, yours = (make_result(make_succeeded(), batch=batch) for batch in (1, 2, 4))
    comparison = compare_records([record_of(both, mine)], [record_of(both, yours, day=2)], 0.02)
    assert [(item.role, item.label.split(" batch ")[1][0]) for item in comparison.unmatched] == [
        ("baseline", "2"),
        ("candidate", "4"),
    ]
    assert len(comparison.experiments) == 1


def test_nothing_in_common_is_incomparable() -> None:
    runs = [record_of(make_result(make_succeeded(), batch=batch), day=batch) for batch in (1, 2)]
    comparison = compare_records([runs[0]], [runs[1]], 0.02)
    assert comparison.verdict == "incomparable"
    assert comparison.suite.reasons == ("the two have no experiment in common",)


def test_a_suite_raises_the_bar_for_each_of_its_experiments() -> None:
    def session(arm: int, count: int) -> Record:
        # A change that a single experiment shows just so.
        results = [
            make_result(
                Succeeded(
                    launches=interleaved_launches((1.0, 1.0254)[arm], arm, 7, noise=0.003 + 0.00001 * n),
                    stop_reason="budget",
                ),
                batch=1,
                seed=n,
            )
            for n in range(count)
        ]
        return make_record(
            run_id=f"run-{arm}",
            results=tuple(results),
            session=arm_of_session("ab"[arm]),
        )

    alone = latency_of(compare_records([session(0, 1)], [session(1, 1)], 0.02))
    in_suite = latency_of(compare_records([session(0, 20)], [session(1, 20)], 0.02))
    assert in_suite.p_value == pytest.approx(alone.p_value)
    assert in_suite.adjusted_p_value > 10 * in_suite.p_value
    assert in_suite.adjusted_p_value >= in_suite.false_discovery_p_value >= in_suite.p_value


def test_memory_and_energy_are_compared_too() -> None:
    comparison = compare_records([session_of(1.0, 0)], [session_of(1.0, 1)], 0.02)
    latency, memory, energy = comparison.experiments[0].judgements
    assert memory.verdict == "same"
    assert energy.verdict == "incomparable"
    assert energy.reasons == ("energy was not measured in both records",)
    assert latency.metric == "latency_s"


def test_only_the_driver_is_named_when_only_it_differs() -> None:
    comparison = compare_records([run_of(1.0, driver="570.1")], [run_of(1.0, day=2, driver="580.2")], 0.02)
    assert comparison.attribution.startswith("only the driver differs (570.1 and 580.2)")
    assert comparison.differences[0].field == "software.gpu_kernel_driver"


def test_the_driver_is_not_blamed_when_more_differs() -> None:
    candidate = run_of(1.0, day=2, driver="580.2")
    configuration = candidate.fingerprint.configuration.model_copy(update={"affinity_cpu_count": Known(value=3)})
    fingerprint = candidate.fingerprint.model_copy(update={"configuration": configuration})
    changed = candidate.model_copy(update={"fingerprint": fingerprint})
    comparison = compare_records([run_of(1.0, driver="570.1")], [changed], 0.02)
    text = "the driver cannot be blamed: 1 more fields differ (configuration.affinity_cpu_count)"
    assert comparison.attribution.startswith(text)


def test_doubts_stand_beside_the_verdict() -> None:
    busy = make_conditions("cuda:0", others_cpu_ratio=Known(value=0.5))
    comparison = compare_records([run_of(1.0)], [run_of(1.0, day=2, conditions=busy)], 0.02)
    (failed,) = comparison.experiments[0].failed_checks
    assert (failed.role, failed.check.name) == ("candidate", "other load")
    assert "CPUs kept busy by others 50.0%" in failed.check.evidence


def run_with(name: str, digest: str, day: int, driver: str, path: str = "/usr/lib/x.so") -> Record:
    library = make_library(name=name, path=path, sha256=Known(value=digest * 64))
    environment = make_environment("cuda:0", loaded_libraries=Known(value=(library,)))
    return run_of(1.0, day=day, driver=driver, environment=environment)


def test_swapped_library_that_no_package_shows_is_a_difference_with_a_name() -> None:
    first = run_with("libcudnn", "a", 1, "580")
    attribution = compare_records([first], [run_with("libcudnn", "b", 2, "580")], 0.02).attribution
    assert attribution.startswith(
        "only software.loaded_libraries.libcudnn differs (x.so (aaaaaaaaaaaa) and x.so (bbbbbbbbbbbb))"
    )
    moved = compare_records([first], [run_with("libcudnn", "a", 2, "580", "/opt/x.so")], 0.02).attribution
    assert moved.startswith("no known difference")


def test_libcuda_of_another_driver_is_no_other_suspect_than_the_driver() -> None:
    runs = [run_with("libcuda", "a", 1, "570")], [run_with("libcuda", "b", 2, "580")]
    assert compare_records(*runs, 0.02).attribution.startswith("only the driver differs (570 and 580)")


def test_forked_launches_against_spawned_ones_are_a_difference_with_a_name() -> None:
    comparison = compare_records([run_of(1.0)], [run_of(1.0, day=2, isolation="spawn", template_id=None)], 0.02)
    assert comparison.attribution.startswith("only protocol.isolation differs (fork and spawn)")
    assert compare_records([run_of(1.0)], [run_of(1.0, day=2)], 0.02).differences == ()


def make_ran(**ran: str) -> dict[str, Any]:
    row = OperatorRow(
        phase="rest", operator="aten::mm", kernel=None, calls=1, self_s=1.0, shapes=None, flop=None, bytes=None
    )
    given: dict[str, Any] = {"profiler": "torch.profiler 2.13.0", "call_count": 1, "call_s": 1.0, "rows": (row,)}
    return {"operators": Known(value=OperatorTable(**given, ran=ran, host_wait_count=None, host_wait_s=None))}


def test_what_ran_differently_comes_first_and_is_no_suspect_where_the_software_differs() -> None:
    flash, math = make_ran(attention="flash", gemm="cuBLAS"), make_ran(attention="math", gemm="cuBLAS", convolution="x")
    same_driver = compare_records([run_of(1.0, **flash)], [run_of(1.1, day=2, **math)], 0.02)
    first = same_driver.differences[0]
    assert (first.field, first.baseline, first.candidate) == ("ran.attention", "flash", "math")
    assert [item.field for item in same_driver.differences if item.field.startswith("ran.")] == ["ran.attention"]
    assert same_driver.attribution.startswith("only ran.attention differs (flash and math)")
    driver = compare_records([run_of(1.0, driver="570", **flash)], [run_of(1.1, day=2, driver="580", **math)], 0.02)
    assert driver.attribution.startswith("only the driver differs (570 and 580)")


def test_what_ran_in_one_run_alone_or_in_both_is_no_difference() -> None:
    known, unknown = run_of(1.0, **make_ran(attention="flash")), run_of(1.0, day=2)
    for other in (unknown, run_of(1.0, day=2, **make_ran(attention="flash"))):
        differences = compare_records([known], [other], 0.02).differences
        assert not [item for item in differences if item.field.startswith("ran.")]
