"""A verified run as an in-toto statement, for supply-chain tools.

Source: the in-toto attestation framework, Statement v1 and the predicate test-result v0.1.
"""

from typing import Any

from sdbench.compare.trust import doubts, trust_of
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.verification.findings import Verification

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
_FAILED = ("failed", "timed_out")


def make_statement(record: Record, verification: Verification) -> dict[str, Any]:
    """Return the statement: the run as subject, the manifest and the image as configuration, experiments as tests.

    An experiment with a doubtful check is a test with a warning; one that failed or timed out has failed. Skipped ones
    and those that found the memory's end are results, and pass.
    """
    passed, warned, failed = [], [], []
    for result in record.results:
        name = f"{result.planned.experiment_id} {result.planned.label}"
        if result.outcome.kind in _FAILED:
            failed.append(name)
        elif doubts(trust_of(result)):
            warned.append(name)
        else:
            passed.append(name)
    sound = verification.is_sound
    verdict = "FAILED" if failed or not sound else "WARNED" if warned else "PASSED"
    subject = {"name": f"{record.run_id}/record.json", "digest": {"sha256": verification.record_sha256}}
    if verification.sha256 is not None:
        subject = {"name": record.run_id, "digest": {"sha256": verification.sha256}}
    configuration = [{"name": record.request.manifest_name, "digest": {"sha256": record.request.manifest_sha256}}]
    image = record.fingerprint.software.image_digest
    if isinstance(image, Known) and image.value.startswith("sha256:"):
        configuration.append({"name": "container image", "digest": {"sha256": image.value.removeprefix("sha256:")}})
    return {
        "_type": STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": verdict,
            "configuration": configuration,
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        },
    }
