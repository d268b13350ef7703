"""The rendered Jobs keep to Kubernetes' own schema, and ask for what a measurement needs."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from sdbench.errors import UserError
from sdbench.fleet.fleet import FleetSpec
from sdbench.fleet.kubernetes import KIND_LABEL, render_jobs
from sdbench.plan.manifest_file import load_manifest

ROOT = Path(__file__).resolve().parents[2]
VERSION = "1.30"
# The second and third differ in a letter that names cannot have.
KINDS = ("NVIDIA-A100-SXM4-80GB", "Tesla-T4", "Tesla_T4", "cpu")


def make_spec(tmp_path: Path, kinds: tuple[str, ...] = KINDS, image: str | None = "sdbench:cuda13") -> FleetSpec:
    path = tmp_path / "Quick_Look.yaml"
    path.write_text(
        "schema: sdbench/manifest/v1\ntitle: 'A: look'\n"
        "experiments:\n- {id: a, title: A, options: {pipeline: tiny-sd}}\n"
    )
    return FleetSpec(load_manifest(path), path.name, kinds, image, ("--budget", "20m"), tmp_path / "out", "kubernetes")


def items(text: str) -> list[dict[str, Any]]:
    return [dict(item) for item in YAML(typ="safe").load_all(text)]


def test_every_item_keeps_to_the_schema_of_kubernetes(tmp_path: Path) -> None:
    rendered = items(render_jobs(make_spec(tmp_path)))
    assert [item["kind"] for item in rendered] == ["ConfigMap", "PersistentVolumeClaim", "Job", "Job", "Job", "Job"]
    for item in rendered:
        kubernetes_validate.validate(item, VERSION, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(rendered[2] | {"spec": {"template": {"specs": {}}}}, VERSION, strict=True)


def test_job_is_for_its_kind_alone_on_its_node_and_is_never_restarted(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    _, _, job, _, _, cpu = items(render_jobs(spec))
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {KIND_LABEL: "NVIDIA-A100-SXM4-80GB"}
    assert pod["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0
    assert pod["containers"][0]["args"][:2] == ["run", "/manifest/manifest.yaml"]
    assert pod["containers"][0]["args"][-2:] == ["--budget", "20m"]
    assert pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert "nodeSelector" not in cpu["spec"]["template"]["spec"]


def test_pod_for_a_gpu_asks_for_it_unless_the_user_names_a_device(tmp_path: Path) -> None:
    _, _, job, _, _, cpu = items(render_jobs(make_spec(tmp_path)))
    arguments = [item["spec"]["template"]["spec"]["containers"][0]["args"] for item in (job, cpu)]
    assert [words[words.index("--device") + 1] for words in arguments] == ["cuda", "cpu"]
    # Of an option that is given twice, the last counts.
    assert arguments[0].index("--device") < arguments[0].index("--budget")


@pytest.mark.parametrize("host_locks", [False, True])
def test_pod_can_write_where_the_image_does(tmp_path: Path, host_locks: bool) -> None:
    text = (ROOT / "Dockerfile.cuda").read_text(encoding="utf-8")
    folders = re.findall(r"(?:HOME|SDBENCH_CACHE|XDG_STATE_HOME)=(/\w+)", text)
    assert len(folders) == 3
    for item in items(render_jobs(make_spec(tmp_path), host_locks=host_locks))[2:]:
        pod = item["spec"]["template"]["spec"]
        paths = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {paths[volume["name"]]: volume for volume in pod["volumes"]}
        assert [volumes[folder]["emptyDir"] for folder in folders] == [{}, {}, {}]
        locks = {"hostPath": {"path": "/tmp/sdbench-locks", "type": "Directory"}, "name": "locks"}
        assert volumes.get("/tmp/sdbench-locks") == (locks if host_locks else None)
        kubernetes_validate.validate(item, VERSION, strict=True)


def test_manifest_arrives_as_it_was_written(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    assert items(render_jobs(spec))[0]["data"]["manifest.yaml"] == spec.loaded.text


def test_names_are_names_of_kubernetes_and_differ(tmp_path: Path) -> None:
    names = [item["metadata"]["name"] for item in items(render_jobs(make_spec(tmp_path)))]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 and name == name.lower() for name in names)


def test_missing_or_invalid_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --image and --kinds"):
        render_jobs(make_spec(tmp_path, image=None))
    with pytest.raises(UserError, match="invalid --image"):
        render_jobs(make_spec(tmp_path, image="x y: z"))
    with pytest.raises(UserError, match="expected a value of the node label"):
        render_jobs(make_spec(tmp_path, kinds=("A 100",)))
