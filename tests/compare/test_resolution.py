from math import exp
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sdbench.compare.policy import BLOCKS_MAX, BLOCKS_MIN, MARGIN, decide, p_changed
from sdbench.compare.resolution import LOOKS, describe_earlier_run, describe_resolution, resolutions
from sdbench.plan.make_plan import PlanRequest, make_plan
from sdbench.schema.base import Known
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record, Session
from sdbench.stats.ratios import LogRatio
from sdbench.stats.student import t_quantile
from sdbench.store.bundle import encode_record
from tests.records import make_launch, make_record, make_result

WALL_S = 5.0


def record_of(*deviations: float, launches: int = 8, session: Session | None = None, **launch_changes: Any) -> Record:
    """Return a record with an experiment per deviation (of the logs of its launches), of 5 s a launch."""
    random = Random(1)
    results = tuple(
        make_result(
            Succeeded(
                launches=tuple(
                    make_launch(index, exp(random.gauss(0, deviation)), wall_s=WALL_S, import_s=3.0, **launch_changes)
                    for index in range(launches)
                ),
                stop_reason="max_launches",
            ),
            batch=2**place,
        )
        for place, deviation in enumerate(deviations)
    )
    return make_record(results=results, session=session)


def test_noisier_experiment_is_promised_a_larger_change() -> None:
    quiet, noisy = resolutions(record_of(0.01, 0.1))
    assert len(quiet.changes) == BLOCKS_MAX - BLOCKS_MIN + 1
    assert all(a < b for a, b in zip(quiet.changes, noisy.changes, strict=True))


def test_block_takes_four_launches_and_the_start_of_a_template() -> None:
    (forked,) = resolutions(record_of(0.01))
    assert forked.block_s == pytest.approx(4 * 5.0 + 3.0)
    (spawned,) = resolutions(record_of(0.01, template_id=None))
    assert spawned.block_s == pytest.approx(4 * 5.0)


def test_sentence_names_the_change_the_blocks_and_the_time() -> None:
    text = describe_resolution(record_of(0.01))
    assert text is not None
    assert text.startswith("sdbench ab would detect a change of ")
    assert "in 7 blocks (2 m 41 s)" in text
    assert ", 3.0 % in 17 (6 m 31 s), " in text
    assert "in 60 (23 m 00 s)" in text
    assert "by experiment" not in text
    assert "by experiment" in str(describe_resolution(record_of(0.01, 0.1)))


def test_only_the_experiments_asked_for_are_described() -> None:
    record = record_of(0.01, 0.1)
    assert "by experiment" not in str(describe_resolution(record, [record.results[0].planned.label]))
    assert "by experiment" in str(describe_resolution(record))
    assert describe_resolution(record, []) is None


@pytest.mark.parametrize("error", [0.0005, 0.002, 0.01])
def test_rule_that_is_promised_for_is_the_one_that_ab_decides_by(error: float) -> None:
    freedom = BLOCKS_MIN - 1
    beyond = LOOKS.edge + t_quantile(freedom, 1 - LOOKS.alpha) * error
    any_change = t_quantile(freedom, 1 - LOOKS.alpha_of_any_change) * error
    for factor, verdict in ((0.999, "inconclusive"), (1.001, "slower")):
        ratio = LogRatio(factor * max(beyond, any_change), error, freedom)
        assert decide(ratio, MARGIN, p_changed(ratio, MARGIN, "block")) == verdict


def test_enormous_change_is_a_factor() -> None:
    assert "x in 60 blocks" in str(describe_resolution(record_of(1.5)))


def test_too_few_launches_and_arms_of_ab_promise_nothing() -> None:
    assert describe_resolution(record_of(0.01, launches=5)) is None
    session = Session(session_id="s", arm="a", seed=1, settings=Known(value=()))
    assert describe_resolution(record_of(0.01, session=session)) is None


MANIFEST = """\
schema: sdbench/manifest/v1
title: One point
model: {pipeline: tiny-sd}
experiments:
  - {id: only, title: One, options: {height: 64, width: 64, steps: 4}}
"""


def test_newest_earlier_run_of_this_machine_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.yaml").write_text(MANIFEST)
    plan = make_plan(PlanRequest(tmp_path / "one.yaml", device="cpu"))
    results = tmp_path / "results"
    assert describe_earlier_run(plan, results) is None
    older, newer = record_of(0.1), record_of(0.01)
    for name, record in (("smoke-20260101T000000Z", older), ("quick-20260102T000000Z", newer)):
        (results / name).mkdir(parents=True)
        (results / name / "record.json").write_bytes(encode_record(record.to_json_dict()))
    (results / "quick-20260103T000000Z").mkdir()
    (results / "quick-20260103T000000Z" / "record.json").write_text("damaged")
    monkeypatch.setattr("sdbench.compare.resolution.collect_fingerprint", lambda _device: newer.fingerprint)
    text = describe_earlier_run(plan, results)
    assert text == f"{describe_resolution(newer)} (from quick-20260102T000000Z)"
    other = make_record(device="cuda:0").fingerprint
    monkeypatch.setattr("sdbench.compare.resolution.collect_fingerprint", lambda _device: other)
    assert describe_earlier_run(plan, results) is None


def test_change_beyond_a_factor_of_ten_is_not_promised() -> None:
    text = describe_resolution(record_of(2.0))
    assert text is not None
    assert text.startswith("launches vary too much here: sdbench ab would detect a change of ")
