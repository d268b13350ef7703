"""What the files of a run are called, and how large a record may be."""

RECORD_NAME = "record.json"
JOURNAL_NAME = "journal.jsonl"
# In the folder of a fleet, next to those of its runs.
FLEET_JOURNAL_NAME = "fleet.jsonl"
# The same of a bisection.
BISECTION_JOURNAL_NAME = "bisect.jsonl"
TELEMETRY_NAME = "telemetry.jsonl"
MANIFEST_NAME = "manifest.yaml"
# What an imported record was made from.
SOURCE_NAME = "source.csv"
IMAGE_FOLDER = "images"
# Of profiled calls, with --trace; never published.
TRACE_FOLDER = "traces"
TRACE_SUFFIX = ".json.gz"
# Limits of what is read (bytes). A record of 1,000 experiments with 8 launches each takes 41 MB; a report of a record
# of 77 MB takes about 1 GB of memory.
RECORD_BYTES_MAX = 2**28
# The journal holds the same launches as the record.
JOURNAL_BYTES_MAX = 2**28
# Ten samples a second of twelve columns take about 1 KB: more than a day.
TELEMETRY_BYTES_MAX = 2**27
IMAGE_BYTES_MAX = 2**25
# A compressed trace: in base64 it has to fit into a line of 64 MB from the worker.
TRACE_BYTES_MAX = 2**25
# The manifest, and what an imported record was made from.
TEXT_BYTES_MAX = 2**26


def largest_bytes(name: str) -> int:
    """Return how large (bytes) a file of this name in a run may be."""
    if name.startswith(f"{IMAGE_FOLDER}/"):
        return IMAGE_BYTES_MAX
    if name.startswith(f"{TRACE_FOLDER}/"):
        return TRACE_BYTES_MAX
    limits = {RECORD_NAME: RECORD_BYTES_MAX, JOURNAL_NAME: JOURNAL_BYTES_MAX, TELEMETRY_NAME: TELEMETRY_BYTES_MAX}
    return limits.get(name, TEXT_BYTES_MAX)
