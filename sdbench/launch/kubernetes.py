"""A fleet as Kubernetes Jobs, rendered for ``kubectl apply``: one for each kind of GPU, alone on its node."""

import re
from typing import Any

from sdbench.errors import UserError
from sdbench.launch.fleet import FleetSpec
from sdbench.schema.base import sha256_of

# The label that NVIDIA's GPU feature discovery gives nodes, for example NVIDIA-A100-SXM4-80GB.
KIND_LABEL = "nvidia.com/gpu.product"
_GPU_RESOURCE = "nvidia.com/gpu"
_CPU_KIND = "cpu"
_APP = "sdbench"
_USER = 1000
# RFC 1123: what names of Kubernetes are made of.
_NOT_A_NAME = re.compile(r"[^a-z0-9-]+")
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/@-]{0,254}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def render_jobs(spec: FleetSpec) -> str:
    """Return a ConfigMap with the manifest, a volume claim for the records and a Job for each kind, as YAML.

    The records are then in the claim ``<name>-results``, a folder for each kind.

    Raises:
        UserError: no image or no kinds, or a kind that no node label can be.
    """
    if spec.image is None or not spec.kinds:
        raise UserError("--engine kubernetes needs --image and --kinds: it renders Jobs and asks no cluster")
    if not _IMAGE.fullmatch(spec.image):
        raise UserError(f"--image {spec.image!r}: no name of an image; write REGISTRY/NAME:TAG or NAME@sha256:...")
    for kind in spec.kinds:
        if not _LABEL_VALUE.fullmatch(kind):
            raise UserError(
                f"--kinds {kind!r}: no value of a node's label {KIND_LABEL}; kubectl get nodes -L {KIND_LABEL}"
            )
    key = sha256_of([spec.loaded.sha256, spec.image, list(spec.kinds), list(spec.arguments)])[:8]
    name = f"sdbench-{_as_name(spec.manifest_name.rpartition('.')[0])[:24].strip('-')}-{key}"
    items = [_config_map(name, spec), _claim(name), *(_job(name, kind, spec) for kind in spec.kinds)]
    return "---\n".join(_to_yaml(item) for item in items)


def _config_map(name: str, spec: FleetSpec) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": _APP}},
        "data": {"manifest.yaml": _block(spec.loaded.text)},
    }


def _claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{name}-results", "labels": {"app": _APP}},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}},
    }


def _job(name: str, kind: str, spec: FleetSpec) -> dict[str, Any]:
    labels = {"app": _APP, "sdbench-kind": kind}
    container: dict[str, Any] = {
        "name": "sdbench",
        "image": spec.image,
        "args": ["run", "/manifest/manifest.yaml", "--out", f"/results/{_kind_name(kind)}", *spec.arguments],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - the one place that may be written
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "manifest", "mountPath": "/manifest", "readOnly": True},
            {"name": "results", "mountPath": "/results"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    pod: dict[str, Any] = {
        # A restart on another node would go on with a run that this one began.
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "fsGroup": _USER},
        "affinity": _alone(),
        "containers": [container],
        "volumes": [
            {"name": "manifest", "configMap": {"name": name}},
            {"name": "results", "persistentVolumeClaim": {"claimName": f"{name}-results"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if kind != _CPU_KIND:
        container["resources"] = {"limits": {_GPU_RESOURCE: 1}}
        pod["nodeSelector"] = {KIND_LABEL: kind}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{name}-{_kind_name(kind)}", "labels": labels},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def _alone() -> dict[str, Any]:
    """Away from every other measurement. Kubernetes has no exclusive nodes, and each node has pods of the system."""
    ours = {"matchLabels": {"app": _APP}}
    term = {"labelSelector": ours, "namespaceSelector": {}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _kind_name(kind: str) -> str:
    """A kind as part of a name; two kinds that differ in letters that names cannot have stay two."""
    return f"{_as_name(kind)[:12].strip('-')}-{sha256_of(kind)[:4]}"


def _block(text: str) -> str:
    """A text that YAML shows line by line."""
    from ruamel.yaml.scalarstring import LiteralScalarString

    block: str = LiteralScalarString(text)
    return block


def _as_name(text: str) -> str:
    return _NOT_A_NAME.sub("-", text.lower()).strip("-")


def _to_yaml(item: dict[str, Any]) -> str:
    import io

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    # Written out twice is easier to read than an alias.
    yaml.representer.ignore_aliases = lambda *_: True
    stream = io.StringIO()
    yaml.dump(item, stream)
    return stream.getvalue()
