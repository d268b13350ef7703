"""The tables of the index: what a record gives of each, with the SQL types of the columns."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sdbench.schema.experiment import Experiment
from sdbench.store.facts import (
    Facts,
    Launch,
    PartialRecord,
    Result,
    counted_launches,
    facts_of,
    latency_s_of,
    launches_of,
)

_TEXT, _WHOLE, _REAL, _SWITCH = "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"
_TYPES = {"str": _TEXT, "int": _WHOLE, "float": _REAL, "bool": _SWITCH}


def _option_columns() -> dict[str, str]:
    """Return the SQL type of each option of an experiment, from its default or its annotation."""
    columns = {}
    for name, info in Experiment.model_fields.items():
        text = str(info.annotation)
        kinds = [kind for kind in ("bool", "int", "float") if kind in text.replace("interpolate", "")]
        columns[name] = _TYPES[kinds[0]] if kinds else _TEXT
    return columns


RUN_COLUMNS = {"path": _TEXT} | {
    field.name: {bool: _SWITCH, int: _WHOLE}.get(field.type, _TEXT) for field in msgspec.structs.fields(Facts)
}
EXPERIMENT_COLUMNS = {
    "path": _TEXT,
    "run_id": _TEXT,
    "experiment_id": _TEXT,
    "label": _TEXT,
    "groups": "VARCHAR[]",
    "outcome": _TEXT,
    "latency_s": _REAL,
    "images_per_min": _REAL,
    "memory_peak_bytes": _WHOLE,
    "energy_per_call_j": _REAL,
    "launch_count": _WHOLE,
    "doubt_count": _WHOLE,
} | _option_columns()
SERIES_COLUMNS = {
    "path": _TEXT,
    "run_id": _TEXT,
    "experiment_id": _TEXT,
    "launch": _WHOLE,
    "series": _TEXT,
    "unit": _TEXT,
    "warmup_count": _WHOLE,
    "samples": "DOUBLE[]",
}
COLUMNS = {"runs": RUN_COLUMNS, "experiments": EXPERIMENT_COLUMNS, "series": SERIES_COLUMNS}


def rows_of(record: PartialRecord, path: str) -> dict[str, list[Any]]:
    """Return the rows of a record by table; ``path`` is that of its folder within the results."""
    return {
        "runs": [{"path": path} | msgspec.structs.asdict(facts_of(record))],
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


def _experiment_row(record: PartialRecord, result: Result, path: str) -> dict[str, Any]:
    latency_s, counted = latency_s_of(result.outcome), counted_launches(result.outcome.launches)
    batch = counted[0].batch if counted else result.planned.experiment["batch"]
    return result.planned.experiment | {
        "path": path,
        "run_id": record.run_id,
        "experiment_id": result.planned.experiment_id,
        "label": result.planned.label,
        "groups": result.planned.groups,
        "outcome": result.outcome.kind,
        "latency_s": latency_s,
        "images_per_min": 60.0 * batch / latency_s if latency_s else None,
        "memory_peak_bytes": _memory_bytes(counted, record.device),
        "energy_per_call_j": _energy_j(counted),
        "launch_count": len(counted),
        "doubt_count": sum(check.verdict == "doubtful" for check in result.trust),
    }


def _memory_bytes(launches: Sequence[Launch], device: str) -> int | None:
    """The highest of the figure that is compared: reserved by torch on a GPU, resident on the host elsewhere."""
    readings = (
        launch.memory.torch_reserved_peak_bytes if device.startswith("cuda") else launch.memory.host_rss_peak_bytes
        for launch in launches
    )
    return max((reading.value for reading in readings if reading.value is not None), default=None)


def _energy_j(launches: Sequence[Launch]) -> float | None:
    known = [
        launch.energy.energy_j.value / launch.energy.call_count
        for launch in launches
        if launch.energy.energy_j.value is not None and launch.energy.call_count
    ]
    return sum(known) / len(known) if known else None
