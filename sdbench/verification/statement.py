"""A verified run as an in-toto statement, for supply-chain tools.

Source: the in-toto attestation framework, Statement v1 and the predicate test-result v0.1.
"""

from typing import Any

from sdbench.compare.quality import failed_checks, quality_checks_of
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.verification.verify import Verification

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
_FAILED = ("failed", "timed_out")


def make_statement(record: Record, verification: Verification) -> dict[str, Any]:
    """Return the statement: the run as subject, the manifest and the image as configuration, experiments as tests.

    An experiment with a check that warned is a test with a warning; one that failed or timed out failed. Skipped ones
    and those that ran out of memory are results, and pass.
    """
    tests: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for result in record.results:
        warned = "warnedTests" if failed_checks(quality_checks_of(result)) else "passedTests"
        kind = "failedTests" if result.outcome.kind in _FAILED else warned
        tests[kind].append(f"{result.planned.experiment_id} {result.planned.label}")
    failed = tests["failedTests"] or not verification.is_valid
    verdict = "FAILED" if failed else "WARNED" if tests["warnedTests"] else "PASSED"
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
        "predicate": {"result": verdict, "configuration": configuration, **tests},
    }
