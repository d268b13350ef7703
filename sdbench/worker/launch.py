"""One launch from request to measurement: import, load, run the workload, read the probes."""

import base64
import io
import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from sdbench.backends import BACKENDS
from sdbench.backends.base import DeviceMemory
from sdbench.probes.energy import open_energy_meter
from sdbench.probes.memory import HostMemoryProbe, read_memory_figures
from sdbench.probes.devices import choose_device
from sdbench.schema.outcome import MemoryFigures
from sdbench.schema.wire import KeptImage, Measurement, WorkerRequest
from sdbench.worker.clock import MonotonicClock
from sdbench.worker.events import EventWriter
from sdbench.workloads import WORKLOADS
from sdbench.workloads.latency import Instruments


def run_launch(request_json: str, events: EventWriter) -> Measurement:
    """Return everything one launch found.

    Raises:
        Exception: whatever the pipeline raises; the caller reports it.
    """
    request = WorkerRequest.model_validate_json(request_json)
    experiment = request.experiment
    clock = MonotonicClock()
    events.say_stage("import")
    import_started_s = clock.now_s()
    backend_module = import_module(BACKENDS[experiment.backend])
    workload = import_module(WORKLOADS[experiment.workload])
    backend_module.import_libraries()
    import_s = clock.now_s() - import_started_s
    events.say_stage("load")
    load_started_s = clock.now_s()
    thread_count = experiment.threads or len(os.sched_getaffinity(0))
    backend = backend_module.open_backend(experiment, request.device, Path(request.cache_folder), thread_count)
    backend.synchronize()
    load_s = clock.now_s() - load_started_s
    meters = _Meters(request.device, backend)
    findings = workload.run(
        backend,
        request.protocol,
        Instruments(
            clock=clock,
            start_energy=meters.energy.start,
            stop_energy=meters.energy.stop,
            say_stage=events.say_stage,
            say_sample=events.say_sample,
            end_of_calls=meters.read,
        ),
    )
    return Measurement(
        import_s=import_s,
        load_s=load_s,
        first_call_s=findings.first_call_s,
        worker_cpu_s=time.process_time(),
        series=findings.series,
        stop_reason=findings.stop_reason,
        memory=meters.figures(),
        energy=findings.energy,
        checks=findings.checks,
        images=findings.images,
        environment=backend.describe(),
        warnings=findings.notices,
        kept_images=(_kept_image(findings.first_image),) if request.keep_images else (),
    )
