"""The names of the stored formats' versions, apart from the models: what reads only in part does without those."""

RECORD_SCHEMA = "sdbench/record/v1"
