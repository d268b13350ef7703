"""What verifying proves, what it does not, and what it finds wrong."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import RecordError
from sdbench.publish.signature import sign
from sdbench.publish.transfer import open_destination, publish_runs, pull_runs
from sdbench.schema.base import sha256_of
from sdbench.schema.record import Record
from sdbench.store.bundle import encode_record, load_record
from sdbench.store.journal import encode_line
from sdbench.verification.statement import make_statement
from sdbench.verification.verify import Verification, verify
from tests.records import make_failed, make_record, make_result
from tests.runs import make_run, make_webp

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run-1")
    return tmp_path / "run-1"


@pytest.fixture
def published(run: Path) -> Path:
    (sent,) = publish_runs([run], open_destination(str(run.parent / "reference")), {})
    return Path(sent.place)


def verdicts(verification: Verification) -> dict[str, str]:
    return {name: check.verdict for name, check in verification.checks.items()}


def text_of(verification: Verification, name: str) -> str:
    return verification.checks[name].text


def reseal(run: Path, change: Change) -> None:
    """Do what a forger does: change the record, and seal it again."""
    path = run / "record.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_bytes(encode_record(content))


def test_valid_run_is_proven_except_for_what_cannot_be(run: Path) -> None:
    verification = verify(str(run))
    assert verification.is_valid
    assert {name for name, verdict in verdicts(verification).items() if verdict != "proven"} == {
        "image",
        "signature",
        "measurement",
    }


def test_samples_that_are_not_positive_contradict_a_converged_result(run: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for result in content["results"]:
            outcome = result["outcome"]
            outcome["stop_reason"] = "converged"
            for launch in outcome["launches"]:
                launch["series"][0]["samples"][-1] = -1.0

    reseal(run, change)
    assert "half-width is none" in text_of(verify(str(run)), "stop reasons")


def test_published_run_is_proven_from_its_archive_alone(published: Path, run: Path) -> None:
    verification = verify(str(published))
    assert verification.is_valid
    assert verification.sha256 == published.stem
    assert verdicts(verification)["images"] == "proven"
    list(pull_runs(open_destination(str(published.parents[1])), run.parent / "out", lambda _: True))
    assert verify(str(run.parent / "out" / "run-1")).sha256 == published.stem


def test_pulled_run_that_was_changed_is_another_bundle(published: Path, run: Path) -> None:
    list(pull_runs(open_destination(str(published.parents[1])), run.parent / "out", lambda _: True))
    pulled = run.parent / "out" / "run-1"
    reseal(pulled, lambda content: content.update(ended="paused"))
    with pytest.raises(RecordError, match="was pulled as another bundle"):
        verify(str(pulled))


def test_archive_under_a_wrong_name_is_refused(published: Path) -> None:
    other = published.with_name("0" * 64 + ".zip")
    published.rename(other)
    with pytest.raises(RecordError, match="not that of its name"):
        verify(str(other))


def first_launch(content: dict[str, Any]) -> dict[str, Any]:
    launch: dict[str, Any] = content["results"][0]["outcome"]["launches"][0]
    return launch


def faster(content: dict[str, Any]) -> None:
    for launch in content["results"][0]["outcome"]["launches"]:
        launch["series"][0]["samples"] = [value / 2 for value in launch["series"][0]["samples"]]


def precise(content: dict[str, Any]) -> None:
    content["results"][0]["outcome"]["stop_reason"] = "converged"


def longer_than_it_took(content: dict[str, Any]) -> None:
    first_launch(content)["wall_s"] = 1.0


def another_option(content: dict[str, Any]) -> None:
    content["results"][0]["planned"]["experiment"]["batch"] = 2


def another_machine(content: dict[str, Any]) -> None:
    content["fingerprint"]["hardware"]["cpu_model"] = {"status": "known", "value": "Faster CPU"}


def another_device(content: dict[str, Any]) -> None:
    first_launch(content)["environment"]["device"] = "cuda:0"


def too_many_calls(content: dict[str, Any]) -> None:
    first_launch(content)["series"][0]["samples"] += [0.25] * 50


def too_many_warmups(content: dict[str, Any]) -> None:
    latency = first_launch(content)["series"][0]
    latency["samples"] = [latency["samples"][0], *latency["samples"]]
    latency["warmup_count"] += 1


def longer_load_than_it_took(content: dict[str, Any]) -> None:
    series = {"name": "latency.sustained", "unit": "s", "samples": [60.0, 0.25], "warmup_count": 1}
    first_launch(content)["series"].append(series)


def lost_launch(content: dict[str, Any]) -> None:
    del content["results"][0]["outcome"]["launches"][1]


def better_trust(content: dict[str, Any]) -> None:
    for check in content["results"][0]["quality_checks"]:
        check["verdict"] = "passed"


def other_day(content: dict[str, Any]) -> None:
    first_launch(content)["started_utc"] = "2026-02-15T10:00:00Z"


def other_image(content: dict[str, Any]) -> None:
    first_launch(content)["images"][0]["sha256"] = "0" * 64


def no_results(content: dict[str, Any]) -> None:
    content["results"] = []


def last_launch_left_out(content: dict[str, Any]) -> None:
    content["results"][0]["outcome"]["launches"].pop()


def fewer_than_said(content: dict[str, Any]) -> None:
    content["results"][0]["outcome"]["stop_reason"] = "max_launches"
    content["results"][0]["outcome"]["launches"].pop()


def longer_than_the_run(content: dict[str, Any]) -> None:
    first_launch(content)["wall_s"] = 1e9


def failed_check(content: dict[str, Any]) -> None:
    first_launch(content)["checks"][0]["passed"] = False


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (faster, "journal"),
        (precise, "stop reasons"),
        (longer_than_it_took, "times"),
        (another_option, "identities"),
        (another_machine, "fingerprint"),
        (another_device, "environment"),
        (too_many_calls, "samples"),
        (too_many_warmups, "samples"),
        (longer_load_than_it_took, "times"),
        (lost_launch, "samples"),
        (other_day, "times"),
        (other_image, "images"),
        (no_results, "manifest"),
        (failed_check, "stop reasons"),
        (last_launch_left_out, "journal"),
        (fewer_than_said, "stop reasons"),
        (longer_than_the_run, "times"),
    ],
)
def test_forged_record_contradicts_itself_though_its_seal_fits(run: Path, change: Change, name: str) -> None:
    reseal(run, change)
    load_record(run)
    verification = verify(str(run))
    assert not verification.is_valid
    assert verdicts(verification)[name] == "contradicted", verification.checks


def test_warm_up_by_time_may_take_more_calls_than_are_requested(run: Path) -> None:
    def warm(content: dict[str, Any]) -> None:
        too_many_warmups(content)
        content["results"][0]["planned"]["protocol"]["warmup_s"] = 1.0

    reseal(run, warm)
    assert verdicts(verify(str(run)))["samples"] != "contradicted"


def test_what_was_not_looked_at_is_not_called_proven(run: Path) -> None:
    def untrusted(content: dict[str, Any]) -> None:
        content["results"][0]["quality_checks"] = []

    reseal(run, untrusted)
    assert text_of(verify(str(run)), "verdicts") == "the record holds no quality checks"

    def virtual(content: dict[str, Any]) -> None:
        content["origin"] = "virtual"

    reseal(run, virtual)
    assert verdicts(verify(str(run)))["times"] == "not proven"

    def without_launches(content: dict[str, Any]) -> None:
        content["results"][0]["outcome"] = {"kind": "skipped", "reason": "a", "hint": "b"}

    reseal(run, without_launches)
    judged = verdicts(verify(str(run)))
    assert {judged[name] for name in ("samples", "times", "environment", "stop reasons")} == {"not proven"}


def test_check_that_was_left_out_is_detected(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_the_first(content: dict[str, Any]) -> None:
        del content["results"][0]["quality_checks"][0]

    reseal(run, without_the_first)
    commit = load_record(run).fingerprint.software.sdbench_commit
    monkeypatch.setattr("sdbench.verification.verify.read_own_commit", lambda _: (commit, commit))
    assert verdicts(verify(str(run)))["verdicts"] == "contradicted"


def test_rewritten_record_is_refused_although_its_content_is_the_same(run: Path) -> None:
    path = run / "record.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b" ", 1))
    with pytest.raises(RecordError, match="the seal does not match"):
        load_record(run)


def test_false_verdict_is_contradicted_for_this_version_and_unproven_for_another(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reseal(run, better_trust)
    commit = load_record(run).fingerprint.software.sdbench_commit
    monkeypatch.setattr("sdbench.verification.verify.read_own_commit", lambda _: (commit, commit))
    assert verdicts(verify(str(run)))["verdicts"] == "contradicted"
    monkeypatch.undo()
    verification = verify(str(run))
    assert verdicts(verification)["verdicts"] == "not proven"
    assert "another made the record" in text_of(verification, "verdicts")


def test_exchanged_picture_is_detected(run: Path) -> None:
    import hashlib

    other = make_webp(7)
    (run / "images/0-0.webp").write_bytes(other)

    def rename(content: dict[str, Any]) -> None:
        named = next(item for item in content["files"] if item["path"].startswith("images/"))
        named |= {"sha256": hashlib.sha256(other).hexdigest(), "size_bytes": len(other)}

    reseal(run, rename)
    assert "another image than the one that was made" in text_of(verify(str(run)), "images")


def test_image_that_was_asked_for_must_be_the_one(run: Path) -> None:
    digest = "sha256:" + "a" * 64
    assert verdicts(verify(str(run), image_digest=digest))["image"] == "contradicted"

    def ran_in(content: dict[str, Any]) -> None:
        software = content["fingerprint"]["software"]
        software["image_digest"] = {"status": "known", "value": digest}
        content["fingerprint"]["software_sha256"] = sha256_of(software)

    reseal(run, ran_in)
    assert verdicts(verify(str(run), image_digest=digest))["image"] == "proven"


def test_signature_is_required_and_its_signer_named(run: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f'ann@example.org namespaces="sdbench" {(tmp_path / "key.pub").read_text()}')
    destination = open_destination(str(tmp_path / "reference"))
    (sent,) = publish_runs([run], destination, {})
    assert verdicts(verify(sent.place, signers, signed_only=True))["signature"] == "contradicted"
    publish_runs([run], destination, {}, tmp_path / "key")
    verification = verify(sent.place, signers, signed_only=True)
    assert verdicts(verification)["signature"] == "proven"
    assert "ann@example.org" in text_of(verification, "signature")
    assert verdicts(verify(sent.place))["signature"] == "not proven"
    signers.write_text("")
    assert verdicts(verify(sent.place, signers))["signature"] == "not proven"
    assert verdicts(verify(sent.place, signers, signed_only=True))["signature"] == "contradicted"
    signature = Path(f"{sent.place}.sig")
    signature.write_bytes(sign(b"other bytes", tmp_path / "key"))
    assert verdicts(verify(sent.place, signers))["signature"] == "contradicted"


def test_journal_of_an_earlier_version_is_no_contradiction(run: Path) -> None:
    lines = (run / "journal.jsonl").read_bytes().splitlines()
    entries = [json.loads(line)["entry"] for line in lines]
    for entry in entries:
        entry.get("launch", {}).pop("conditions", None)
    (run / "journal.jsonl").write_bytes(b"".join(map(encode_line, entries)))

    def rename(content: dict[str, Any]) -> None:
        from sdbench.store.files import describe_file

        named = next(item for item in content["files"] if item["path"] == "journal.jsonl")
        named |= describe_file(run, run / "journal.jsonl").to_json_dict()

    reseal(run, rename)
    assert verify(str(run)).is_valid


def statement_of(record: Record, run: Path) -> dict[str, Any]:
    return make_statement(record, verify(str(run)))


def test_statement_is_in_toto_and_names_the_bundle(published: Path) -> None:
    verification = verify(str(published))
    statement = make_statement(load_record(published.parents[2] / "run-1"), verification)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert statement["subject"] == [{"name": "run-1", "digest": {"sha256": published.stem}}]
    assert set(statement["predicate"]) == {"result", "configuration", "passedTests", "warnedTests", "failedTests"}
    assert json.loads(json.dumps(statement)) == statement


def test_statement_of_a_failed_experiment_fails(run: Path) -> None:
    record = make_record(results=(make_result(make_failed()),))
    statement = statement_of(record, run)
    assert statement["predicate"]["result"] == "FAILED"
    assert len(statement["predicate"]["failedTests"]) == 1
    digest = hashlib.sha256((run / "record.json").read_bytes()).hexdigest()
    assert statement["subject"][0]["digest"]["sha256"] == digest
