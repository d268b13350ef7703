"""A fleet on Ray: each member takes a whole node, and its runs come back through Ray's object store."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdbench.errors import EnvironmentProblem
from sdbench.launch.fleet import Event, Lost
from sdbench.launch.member import Member, Progress, Runs, measure_member, work_folder

# A label that the owner of a cluster may give a node, before what Ray knows of its accelerators.
KIND_LABEL = "sdbench-kind"
_RAY_LABEL = "ray.io/accelerator-type"
_RAY_RESOURCE = "accelerator_type:"
_CPU_KIND = "cpu"
_WAIT_S = 1.0
# Nothing listens there: with the switch alone Ray was seen to post once all the same.
_DEAD_URL = "http://127.0.0.1:9/"


class RayEngine:
    """The nodes of a running Ray cluster; each is taken whole, with all its CPUs and GPUs."""

    def __init__(self, address: str) -> None:
        """Connect to the cluster.

        Raises:
            EnvironmentProblem: Ray is not installed, or there is no cluster at the address.
        """
        # Before Ray is imported, and for good.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_USAGE_STATS_REPORT_URL"] = _DEAD_URL
        try:
            import ray
        except ImportError:
            msg = "--engine ray: Ray is not installed; install the extra: pip install 'sdbench[fleet]'"
            raise EnvironmentProblem(msg) from None
        self._ray = ray
        try:
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", namespace="sdbench")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            text = " ".join(str(error).split())[:200]
            raise EnvironmentProblem(
                f"--engine ray: no cluster at {address!r} ({text}); start one with 'ray start --head'"
            ) from None
        self._streams: dict[Any, tuple[str, str]] = {}

    def nodes(self) -> Mapping[str, Sequence[str]]:
        """Return the ids of the nodes that are alive and have CPUs, by kind."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for node in self._ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
                found[kind_of(node)].append(node["NodeID"])
        return {kind: sorted(ids) for kind, ids in found.items()}

    def start(self, member: Member, node: str) -> None:
        """Send the member to a node, which runs nothing else of Ray's meanwhile."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        resources = self._resources(node)
        task = self._ray.remote(
            max_retries=0,
            num_returns="streaming",
            num_cpus=resources.get("CPU", 1),
            num_gpus=resources.get("GPU", 0),
            # A retry elsewhere would be another machine under the same name, so the driver decides.
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )(_measure)
        self._streams[task.remote(member.to_json_dict())] = (member.kind, node)

    def events(self) -> Iterator[tuple[str, Event]]:
        """Yield what the nodes said since the last call; wait a second if they said nothing."""
        ready, _ = self._ray.wait(list(self._streams), num_returns=1, timeout=_WAIT_S)
        for stream in ready:
            kind, node = self._streams[stream]
            try:
                event: Event = self._ray.get(next(stream))
            except StopIteration:
                del self._streams[stream]
                yield kind, Lost("its worker ended without an answer", node_is_gone=False)
                continue
            except self._ray.exceptions.RayError as error:
                del self._streams[stream]
                gone = node not in {name for names in self.nodes().values() for name in names}
                why = "the machine is gone" if gone else f"its worker died ({type(error).__name__})"
                yield kind, Lost(why, node_is_gone=gone or _names_the_node(error))
                continue
            if isinstance(event, Runs):
                del self._streams[stream]
            yield kind, event

    def clear(self, member: Member, node: str) -> None:
        """Remove what a node kept of a member; a node that is gone took it along."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        task = self._ray.remote(max_retries=0, num_cpus=0, scheduling_strategy=strategy)(_clear)
        task.remote(member.to_json_dict())

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def _resources(self, node: str) -> Mapping[str, float]:
        return next((found["Resources"] for found in self._ray.nodes() if found["NodeID"] == node), {})


def kind_of(node: Mapping[str, Any]) -> str:
    """Return a node's kind: what its owner labels it, else its accelerator, else ``cpu``."""
    labels, resources = node.get("Labels") or {}, node["Resources"]
    for label in (KIND_LABEL, _RAY_LABEL):
        if labels.get(label):
            return str(labels[label])
    named = (name.removeprefix(_RAY_RESOURCE) for name in resources if name.startswith(_RAY_RESOURCE))
    return next(named, _CPU_KIND)


def _names_the_node(error: Exception) -> bool:
    """Whether Ray says that the node died, which it may do before its list of nodes says so."""
    return type(error).__name__ in ("NodeDiedError", "TaskUnschedulableError", "ActorUnschedulableError")


def _measure(member: dict[str, Any]) -> Iterator[Progress | Runs]:
    """Run on a node: in a folder of its own, because several nodes may share a disk."""
    import ray

    work = work_folder() / ray.get_runtime_context().get_node_id()
    yield from measure_member(Member.model_validate(_frozen(member)), work)


def _clear(member: dict[str, Any]) -> None:
    import shutil

    import ray

    folder = work_folder() / ray.get_runtime_context().get_node_id() / str(member["fleet_id"])
    shutil.rmtree(folder, ignore_errors=True)


def _frozen(member: dict[str, Any]) -> dict[str, Any]:
    return member | {"arguments": tuple(member["arguments"])}
