"""A fleet on Ray: each job takes all of a node, and its runs come back through Ray's object store."""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from sdbench.errors import EnvironmentProblem
from sdbench.fleet.fleet import Event, Lost
from sdbench.fleet.node_job import CPU_KIND, NodeJob, NodeResult, measure

# In order: the label that the owner of a cluster may give a node, and that of Ray's own.
_KIND_LABELS = ("sdbench-kind", "ray.io/accelerator-type")
_ACCELERATOR_RESOURCE = "accelerator_type:"
_WAIT_S = 1.0
# Nothing listens there: with the switch alone Ray still posts once (measured).
_DEAD_URL = "http://127.0.0.1:9/"


class RayEngine:
    """The nodes of a running Ray cluster; a job takes all CPUs and GPUs of its node."""

    def __init__(self, address: str) -> None:
        """Connect to the cluster.

        Raises:
            EnvironmentProblem: Ray is not installed, or there is no cluster at the address.
        """
        # Before Ray is imported, and for the life of this process.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_USAGE_STATS_REPORT_URL"] = _DEAD_URL
        try:
            import ray
        except ImportError:
            msg = "--engine ray: Ray is not installed; install the extra: pip install 'sdbench[fleet]'"
            raise EnvironmentProblem(msg) from None
        try:
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", namespace="sdbench")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            text = " ".join(str(error).split())[:200]
            raise EnvironmentProblem(
                f"--engine ray: no cluster at {address!r} ({text}); start one with 'ray start --head'"
            ) from None
        self._ray = ray
        self._streams: dict[Any, tuple[str, str]] = {}

    def nodes(self) -> Mapping[str, Sequence[str]]:
        """Return the ids of the nodes that are alive and have CPUs, by kind."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for node in self._ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
                ids[kind_of(node)].append(node["NodeID"])
        return {kind: sorted(of_kind) for kind, of_kind in ids.items()}

    def start(self, job: NodeJob, node: str) -> None:
        """Send the job to a node, which runs no other task of Ray's meanwhile."""
        resources = {each["NodeID"]: each["Resources"] for each in self._ray.nodes()}.get(node, {})
        cpus, gpus = resources.get("CPU", 1), resources.get("GPU", 0)
        stream = self._send(_measure, job, node, num_returns="streaming", num_cpus=cpus, num_gpus=gpus)
        self._streams[stream] = (job.kind, node)

    def events(self) -> Iterator[tuple[str, Event]]:
        """Yield the nodes' events since the last call; wait a second if there are none."""
        ready, _ = self._ray.wait(list(self._streams), num_returns=1, timeout=_WAIT_S)
        for stream in ready:
            kind, node = self._streams[stream]
            try:
                event: Event = self._ray.get(next(stream))
            except StopIteration:
                event = Lost("its worker ended without a result", node_is_gone=False)
            except self._ray.exceptions.RayError as error:
                # Ray may report that the node died before its list of nodes shows it.
                named = type(error).__name__ in ("NodeDiedError", "TaskUnschedulableError", "ActorUnschedulableError")
                gone = node not in chain.from_iterable(self.nodes().values())
                why = "the machine is gone" if gone else f"its worker died ({type(error).__name__})"
                event = Lost(why, node_is_gone=gone or named)
            if not isinstance(event, str):
                del self._streams[stream]
            yield kind, event

    def clear(self, job: NodeJob, node: str) -> None:
        """Remove what a node kept of a job; a node that is gone took it along."""
        self._send(_clear, job, node, num_cpus=0)

    def close(self) -> str:
        """Leave the cluster, which ends what runs."""
        self._ray.shutdown()
        return ""

    def _send(self, function: Callable[[str], Any], job: NodeJob, node: str, **options: Any) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # A retry elsewhere would be another machine under the same name, so the driver decides.
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        task = self._ray.remote(max_retries=0, scheduling_strategy=strategy, **options)(function)
        return task.remote(job.model_dump_json())


def kind_of(node: Mapping[str, Any]) -> str:
    """Return a node's kind: its label, else its accelerator, else ``cpu``."""
    labels = node.get("Labels") or {}
    accelerators = (name for name in node["Resources"] if name.startswith(_ACCELERATOR_RESOURCE))
    kinds = [*filter(None, map(labels.get, _KIND_LABELS)), *accelerators, CPU_KIND]
    return str(kinds[0]).removeprefix(_ACCELERATOR_RESOURCE)


def _measure(job_json: str) -> Iterator[str | NodeResult]:
    yield from measure(NodeJob.model_validate_json(job_json), _work_folder())


def _clear(job_json: str) -> None:
    shutil.rmtree(_work_folder() / NodeJob.model_validate_json(job_json).fleet_id, ignore_errors=True)


def _work_folder() -> Path:
    """Where this node keeps runs until they are collected: a folder of its own, because nodes may share a disk."""
    import ray

    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    folder = Path(os.environ.get("SDBENCH_FLEET_WORK") or state / "sdbench" / "fleet")
    return folder / str(ray.get_runtime_context().get_node_id())
