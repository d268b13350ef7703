"""What the files of a run are called, and how large a record may be."""

RECORD_NAME = "record.json"
JOURNAL_NAME = "journal.jsonl"
# In the folder of a fleet, beside those of its runs.
FLEET_JOURNAL_NAME = "fleet.jsonl"
TELEMETRY_NAME = "telemetry.jsonl"
MANIFEST_NAME = "manifest.yaml"
# What an imported record was made from.
SOURCE_NAME = "source.csv"
IMAGE_FOLDER = "images"
# A run of 10,000 experiments takes about a tenth of it.
RECORD_BYTES_MAX = 2**30
