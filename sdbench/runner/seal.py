"""The sealed record of a run, built from its state."""

from sdbench.compare.machine_ceilings import describe_drift
from sdbench.compare.quality import check_quality
from sdbench.probes.clocks_and_load import BUSY_RATIO
from sdbench.probes.readings import value_or
from sdbench.runner.folder import utc_now
from sdbench.runner.schedule import Progress
from sdbench.runner.state import CEILINGS, Ended, RunState
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.ceilings import Ceilings
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.outcome import RecordWarning, Skipped, warn
from sdbench.schema.record import Record, Result
from sdbench.schema.versions import RECORD_SCHEMA
from sdbench.schema.warning_codes import WarningCode
from sdbench.store.bundle import seal_record


def seal(state: RunState, ended: Ended) -> Record:
    """Write the record of the finished launches and return it; ``ended`` is how the run ended."""
    spec, first = state.spec, state.folder.entries[0]
    at_start = state.ceilings_at_start or Unknown(reason=f"the run was {ended} before they were measured")
    fingerprint = state.fingerprint.model_copy(
        update={"state": state.fingerprint.state.model_copy(update={"ceilings": at_start})}
    )
    warnings = (*_warn_of_conditions(fingerprint), *_warn_of_ceilings(state, at_start))
    if state.virtual is not None:
        message = f"simulated results of the virtual backend with {state.virtual}"
        warnings = (warn(WarningCode.VIRTUAL, message), *warnings)
    return seal_record(
        state.folder.path,
        {
            "schema": RECORD_SCHEMA,
            "origin": "virtual" if state.virtual else "measured",
            "run_id": first["run_id"],
            "created_utc": first["created_utc"],
            "ended_utc": utc_now(),
            "ended": ended,
            "wall_s": {"status": "known", "value": state.elapsed_s},
            "request": spec.plan.request.to_json_dict(),
            "session": spec.session.to_json_dict() if spec.session else None,
            "device_group": spec.device_group.to_json_dict() if spec.device_group else None,
            "publication": None,
            "manifest": spec.plan.loaded.manifest.to_json_dict(),
            "pipelines": {name: own.to_json_dict() for name, own in spec.plan.pipelines.items()},
            "device": spec.plan.device.torch_name,
            "fingerprint": fingerprint.to_json_dict(),
            "ceilings_at_end": CEILINGS.dump_python(state.ceilings_at_end, mode="json"),
            "results": [_result(progress, ended).to_json_dict() for progress in state.progress],
            "warnings": [warning.to_json_dict() for warning in warnings],
        },
    )


def _result(progress: Progress, ended: Ended) -> Result:
    skip = Skipped(reason=f"the run was {ended} before it", hint="run the same command again to continue")
    outcome = progress.ended or progress.end_well_or_skip("interrupted", skip)
    return Result(planned=progress.planned, outcome=outcome, quality_checks=check_quality(outcome))


def _warn_of_conditions(fingerprint: Fingerprint) -> tuple[RecordWarning, ...]:
    """Return a warning for each condition that makes the results harder to repeat or to trust."""
    warnings = []
    load = value_or(fingerprint.state.load_average_1min, 0.0)
    cpu_count = value_or(fingerprint.configuration.affinity_cpu_count, 0)
    if cpu_count and load > BUSY_RATIO * cpu_count:
        message = f"the load average was {load:.2f} on {cpu_count} CPUs when the run started"
        warnings.append(warn(WarningCode.BUSY_BEFORE, message))
    if value_or(fingerprint.software.sdbench_dirty, False):
        message = "sdbench was run from a checkout with uncommitted changes: its commit is not what ran"
        warnings.append(warn(WarningCode.DIRTY_CHECKOUT, message))
    if foreign_count := value_or(fingerprint.state.foreign_gpu_process_count, 0):
        message = f"{foreign_count} other processes used the GPU when the run started"
        warnings.append(warn(WarningCode.FOREIGN_GPU_PROCESS, message))
    return tuple(warnings)


def _warn_of_ceilings(state: RunState, at_start: Reading[Ceilings]) -> tuple[RecordWarning, ...]:
    """Return a warning where the machine changed during the run, and where that could not be measured."""
    warnings = []
    if drift := describe_drift(at_start, state.ceilings_at_end):
        warnings.append(warn(WarningCode.MACHINE_DRIFTED, drift))
    if state.ceiling_failures:
        warnings.append(warn(WarningCode.CEILINGS_MISSING, "; ".join(state.ceiling_failures)))
    return tuple(warnings)
