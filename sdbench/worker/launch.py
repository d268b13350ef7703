"""One launch from request to measurement: import, load, run the workload, read the probes."""

import base64
import io
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from sdbench.backends import BACKENDS
from sdbench.backends.base import Backend
from sdbench.probes.cgroup import count_usable_cpus
from sdbench.probes.devices import Device, choose_device
from sdbench.probes.energy import open_energy_meter
from sdbench.probes.memory import HostMemoryProbe, read_device_memory, read_memory_figures
from sdbench.schema.outcome import MemoryFigures
from sdbench.schema.wire import KeptImage, Measurement, WorkerRequest
from sdbench.worker.clock import MonotonicClock
from sdbench.worker.events import EventWriter
from sdbench.workloads import WORKLOADS
from sdbench.workloads.latency import Instruments


def run_launch(request_json: bytes, events: EventWriter) -> Measurement:
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
    events.say_stage("fetch")
    backend_module.fetch(experiment, Path(request.cache_folder))
    events.say_stage("load")
    load_started_s = clock.now_s()
    thread_count = experiment.threads or count_usable_cpus()
    backend = backend_module.open_backend(experiment, request.device, Path(request.cache_folder), thread_count)
    backend.synchronize()
    load_s = clock.now_s() - load_started_s
    meters = _Meters(choose_device(request.device), backend)
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


class _Meters:
    """The probes of one launch; peaks count from the end of loading to the last timed call."""

    def __init__(self, device: Device, backend: Backend) -> None:
        self.energy = open_energy_meter(device)
        self._device = device
        self._backend = backend
        self._host = HostMemoryProbe()
        self._figures: MemoryFigures | None = None
        self._host.reset()
        backend.reset_peaks()

    def read(self) -> None:
        """Read the memory figures; the observed calls after it hold more alive than the timed ones."""
        peaks = self._backend.read_peaks()
        process_bytes, total_bytes = read_device_memory(self._device)
        self._figures = read_memory_figures(
            self._host, peaks.allocated_peak_bytes, peaks.reserved_peak_bytes, process_bytes, total_bytes
        )

    def figures(self) -> MemoryFigures:
        """Return the figures read at the end of the calls."""
        if self._figures is None:
            msg = "the workload did not say that its calls have ended"
            raise RuntimeError(msg)
        return self._figures


def _kept_image(image: Any) -> KeptImage:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=True)
    return KeptImage(index=0, webp_base64=base64.b64encode(buffer.getvalue()).decode())
