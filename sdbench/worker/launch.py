"""One launch from request to measurement: import, load, run the workload, read the probes."""

import base64
import time
from importlib import import_module
from pathlib import Path

from sdbench.backends import BACKENDS
from sdbench.backends.base import Backend, BackendModule
from sdbench.probes.cgroup import count_usable_cpus
from sdbench.probes.devices import choose_device
from sdbench.probes.energy import open_energy_meter
from sdbench.probes.memory import HostMemoryProbe, read_device_memory, read_memory_figures
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import MemoryFigures
from sdbench.schema.study import BatchProbe
from sdbench.schema.wire import Measurement, Picture, WorkerRequest
from sdbench.worker.clock import open_clock
from sdbench.worker.events import EventWriter
from sdbench.workloads import WORKLOADS
from sdbench.workloads.base import Workload


def run_launch(request_json: bytes, events: EventWriter) -> Measurement:
    """Return everything one launch found.

    Raises:
        Exception: whatever the pipeline raises; the caller reports it.
    """
    request = WorkerRequest.model_validate_json(request_json)
    session = WorkerSession(request, events)
    events.say_stage("import")
    import_started_s = session.clock.now_s()
    workload: Workload = import_module(WORKLOADS[request.experiment.workload])
    session.import_libraries(request.experiment)
    import_s = session.clock.now_s() - import_started_s
    found = workload.run(session)
    return Measurement(
        batch=found.batch,
        import_s=import_s,
        load_s=session.load_s,
        first_call_s=found.first_call_s,
        worker_cpu_s=time.process_time(),
        series=found.series,
        stop_reason=found.stop_reason,
        memory=found.memory,
        energy=found.energy,
        checks=found.checks,
        images=found.images,
        exports=found.exports,
        study=found.study,
        environment=found.environment,
        warnings=found.notices,
        pictures=tuple(
            Picture(path=path, webp_base64=base64.b64encode(content).decode())
            for path, content in found.pictures.items()
        ),
    )


class WorkerSession:
    """The workload's way to everything outside it: backends, clock, meters, and the supervisor."""

    def __init__(self, request: WorkerRequest, events: EventWriter) -> None:
        self.experiment = request.experiment
        self.protocol = request.protocol
        self.known_probes: tuple[BatchProbe, ...] = request.known_probes
        self.clock = open_clock(request.experiment.backend)
        self.load_s = 0.0
        self._request = request
        self._device = choose_device(request.device)
        self._energy = open_energy_meter(self._device)
        self._host = HostMemoryProbe()
        self._backend: Backend | None = None
        self.say_stage = events.say_stage
        self.say_sample = events.say_sample
        self.say_probing = events.say_probing
        self.say_probe = events.say_probe
        self.start_energy = self._energy.start
        self.stop_energy = self._energy.stop

    def import_libraries(self, experiment: Experiment) -> BackendModule:
        """Return the module of the experiment's backend, with its libraries imported."""
        module: BackendModule = import_module(BACKENDS[experiment.backend])
        module.import_libraries()
        return module

    def open_backend(self, experiment: Experiment) -> Backend:
        """Load ``experiment``; memory peaks count from here on, and the time (s) adds to ``load_s``.

        A backend that is open is let go before, so that two never share the memory.
        """
        if self._backend is not None:
            earlier, self._backend = self._backend, None
            recover = earlier.recover
            del earlier
            recover()
        module = self.import_libraries(experiment)
        cache_folder = Path(self._request.cache_folder)
        self.say_stage("fetch")
        module.fetch(experiment, cache_folder, self.say_stage)
        threads = experiment.threads or count_usable_cpus()
        self.say_stage("load")
        started_s = self.clock.now_s()
        self._backend = module.open_backend(experiment, self._request.device, cache_folder, threads)
        self._backend.synchronize()
        self.load_s += self.clock.now_s() - started_s
        self.reset_memory()
        return self._backend

    def reset_memory(self) -> None:
        """Start new memory peaks."""
        self._host.reset()
        self._opened.reset_peaks()

    def read_memory(self) -> MemoryFigures:
        """Return the memory figures (bytes) since the last reset."""
        peaks = self._opened.read_peaks()
        process_bytes, total_bytes = read_device_memory(self._device)
        return read_memory_figures(
            self._host, peaks.allocated_peak_bytes, peaks.reserved_peak_bytes, process_bytes, total_bytes
        )

    def image_path(self, name: str) -> str | None:
        """Return the path within the bundle of a picture called ``name``, None when none are kept."""
        return f"{self._request.image_prefix}{name}.webp" if self._request.image_prefix else None

    @property
    def _opened(self) -> Backend:
        if self._backend is None:
            msg = "memory is read before a backend is open"
            raise RuntimeError(msg)
        return self._backend
