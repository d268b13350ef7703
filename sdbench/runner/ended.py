"""What a run that has ended deserves as exit code."""

from sdbench import exit_codes
from sdbench.schema.record import Record


def exit_code(record: Record) -> int:
    """Return the exit code that a record deserves."""
    if record.ended == "interrupted":
        return exit_codes.INTERRUPTED
    if record.ended == "paused":
        return 0
    kinds = {result.outcome.kind for result in record.results}
    if kinds & {"failed", "timed_out"}:
        return exit_codes.EXPERIMENT_FAILED
    return exit_codes.ALL_SKIPPED if kinds == {"skipped"} else 0
