"""A fleet as Kubernetes Jobs, rendered for ``kubectl apply``: one for each kind of GPU, alone on its node."""

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from sdbench.errors import UserError
from sdbench.fleet.fleet import FleetSpec
from sdbench.fleet.node_job import CPU_KIND, device_options
from sdbench.schema.base import sha256_of
from sdbench.store.lock import LOCK_FOLDER

# The label that NVIDIA's GPU feature discovery gives nodes, for example NVIDIA-A100-SXM4-80GB.
KIND_LABEL = "nvidia.com/gpu.product"
_APP = {"app": "sdbench"}
# The characters that names of Kubernetes (RFC 1123) do not have.
_NOT_A_NAME = re.compile(r"[^a-z0-9-]+")
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/@-]{0,254}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def render_jobs(spec: FleetSpec, *, host_locks: bool = False) -> str:
    """Return a ConfigMap with the manifest, a volume claim for the records and a Job for each kind, as YAML.

    The records are then in the claim ``<name>-results``, a folder for each kind. With ``host_locks`` the pods share the
    device locks of their nodes, in a folder that the nodes must have.

    Raises:
        UserError: no image or no kinds, or a kind that cannot be the value of a node label.
    """
    if spec.image is None or not spec.kinds:
        raise UserError("--engine kubernetes needs --image and --kinds: it renders Jobs without asking a cluster")
    if not _IMAGE.fullmatch(spec.image):
        raise UserError(f"invalid --image {spec.image!r}: expected REGISTRY/NAME:TAG or NAME@sha256:...")
    for kind in spec.kinds:
        if not _LABEL_VALUE.fullmatch(kind):
            raise UserError(
                f"invalid --kinds {kind!r}: expected a value of the node label {KIND_LABEL}; "
                f"list them with kubectl get nodes -L {KIND_LABEL}"
            )
    key = sha256_of([spec.loaded.sha256, spec.image, list(spec.kinds), list(spec.arguments)])[:8]
    name = f"sdbench-{_as_name(spec.manifest_name.rpartition('.')[0], 24)}-{key}"
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    items = [
        _item("v1", "ConfigMap", name, _APP, data={"manifest.yaml": LiteralScalarString(spec.loaded.text)}),
        _item("v1", "PersistentVolumeClaim", f"{name}-results", _APP, spec=claim),
        *(_job(name, kind, spec, host_locks=host_locks) for kind in spec.kinds),
    ]
    yaml = YAML()
    yaml.default_flow_style = False
    # Written out twice is easier to read than an alias.
    yaml.representer.ignore_aliases = lambda *_: True
    stream = io.StringIO()
    yaml.dump_all(items, stream)
    return stream.getvalue()


def _item(api: str, kind: str, name: str, labels: dict[str, str], **content: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels}, **content}


def _job(name: str, kind: str, spec: FleetSpec, *, host_locks: bool) -> dict[str, Any]:
    labels = _APP | {"sdbench-kind": kind}
    # Kinds that differ only in characters that names cannot have differ in the hash.
    kind_name = f"{_as_name(kind, 12)}-{sha256_of(kind)[:4]}"
    hardened = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    options = [*device_options(kind), *spec.arguments]
    # What the image writes to, apart from which it is read-only.
    writable: dict[str, tuple[str, dict[str, Any]]] = {
        "results": ("/results", {"persistentVolumeClaim": {"claimName": f"{name}-results"}}),
        **{folder: (f"/{folder}", {"emptyDir": {}}) for folder in ("tmp", "cache", "state")},
    }
    if host_locks:
        writable["locks"] = (str(LOCK_FOLDER), {"hostPath": {"path": str(LOCK_FOLDER), "type": "Directory"}})
    container: dict[str, Any] = {
        "name": "sdbench",
        "image": spec.image,
        "args": ["run", "/manifest/manifest.yaml", "--out", f"/results/{kind_name}", *options],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - as in the image
        "securityContext": hardened,
        "volumeMounts": [
            {"name": "manifest", "mountPath": "/manifest", "readOnly": True},
            *({"name": volume, "mountPath": path} for volume, (path, _) in writable.items()),
        ],
    }
    # Kubernetes has no exclusive nodes, and each node has system pods: this keeps away from other measurements only.
    measurements = {"labelSelector": {"matchLabels": _APP}, "namespaceSelector": {}}
    alone = measurements | {"topologyKey": "kubernetes.io/hostname"}
    pod: dict[str, Any] = {
        # A restart on another node would resume a run that this one started.
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [alone]}},
        "containers": [container],
        "volumes": [
            {"name": "manifest", "configMap": {"name": name}},
            *({"name": volume, **source} for volume, (_, source) in writable.items()),
        ],
    }
    if kind != CPU_KIND:
        container["resources"] = {"limits": {"nvidia.com/gpu": 1}}
        pod["nodeSelector"] = {KIND_LABEL: kind}
    spec_of_job = {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return _item("batch/v1", "Job", f"{name}-{kind_name}", labels, spec=spec_of_job)


def _as_name(text: str, limit: int) -> str:
    return _NOT_A_NAME.sub("-", text.lower()).strip("-")[:limit].strip("-")
