"""The tables of the index: what a record gives of each, with the SQL types of the columns."""

from typing import Any

from pydantic.fields import FieldInfo

from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.schema.metrics import (
    MemoryRange,
    batch_of,
    images_per_min,
    launches_that_count,
    result_energy_j,
    result_latency_s,
    result_memory,
)
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Record, Result
from sdbench.store.summary import FACTS

_TEXT, _WHOLE, _REAL, _SWITCH = "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"
_TYPES = {"int": _WHOLE, "float": _REAL, "bool": _SWITCH}


def _column_type(info: FieldInfo) -> str:
    text = str(info.annotation)
    if "dict" in text:
        return _TEXT  # as JSON
    return next((_TYPES[kind] for kind in ("bool", "int", "float") if kind in text), _TEXT)


_KEYS = {"path": _TEXT, "run_id": _TEXT, "experiment_id": _TEXT}
COLUMNS = {
    "runs": {"path": _TEXT} | dict.fromkeys(FACTS, _TEXT) | {"gpu_count": _WHOLE, "published": _SWITCH},
    "experiments": _KEYS
    | {
        "label": _TEXT,
        "groups": "VARCHAR[]",
        "outcome": _TEXT,
        "latency_s": _REAL,
        "images_per_min": _REAL,
        "memory_bytes": _REAL,
        "energy_per_image_j": _REAL,
        "denoiser_calls": _WHOLE,
        "flop_per_image": _REAL,
        "launch_count": _WHOLE,
        "warned_check_count": _WHOLE,
    }
    | {name: _column_type(info) for name, info in Experiment.model_fields.items()},
    "series": _KEYS | {"launch": _WHOLE, "series": _TEXT, "unit": _TEXT, "warmup_count": _WHOLE, "samples": "DOUBLE[]"},
}
# Views: every sample a row, and every result with the facts of its run.
VIEWS = {
    "samples": "SELECT * EXCLUDE (samples, warmup_count), samples[call + 1] AS value, call < warmup_count AS warmup "
    "FROM (SELECT *, unnest(range(len(samples))) AS call FROM series)",
    "results": "SELECT * FROM experiments JOIN (SELECT * EXCLUDE (device) FROM runs) USING (path, run_id)",
}


def rows_of(record: Record, path: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a record by table; ``path`` is that of its folder within the results."""
    return {
        "runs": [{"path": path} | {name: read(record) for name, read in FACTS.items()}],
        "experiments": [_experiment_row(record, result, path) for result in record.results],
        "series": [
            {
                "path": path,
                "run_id": record.run_id,
                "experiment_id": result.planned.experiment_id,
                "launch": launch.index,
                "series": series.name,
                "unit": series.unit,
                "warmup_count": series.warmup_count,
                "samples": series.samples,
            }
            for result in record.results
            for launch in launches_of(result.outcome)
            for series in launch.series
        ],
    }


def _experiment_row(record: Record, result: Result, path: str) -> dict[str, Any]:
    planned, outcome = result.planned, result.outcome
    latency_s, memory, energy = result_latency_s(outcome), result_memory(outcome), result_energy_j(outcome)
    return planned.experiment.model_dump() | {
        "path": path,
        "run_id": record.run_id,
        "experiment_id": planned.experiment_id,
        "label": planned.label,
        "groups": planned.groups,
        "outcome": outcome.kind,
        "latency_s": latency_s,
        "images_per_min": images_per_min(batch_of(planned, outcome), latency_s) if latency_s else None,
        "memory_bytes": memory.median_bytes if isinstance(memory, MemoryRange) else None,
        "energy_per_image_j": energy.value if isinstance(energy, Known) else None,
        "launch_count": len(launches_that_count(outcome)),
        "warned_check_count": sum(check.verdict == "warned" for check in result.quality_checks),
    }
