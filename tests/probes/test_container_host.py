import json
from typing import Any

import pytest

from sdbench.probes.container_host import VARIABLE, read_container_engine, read_image_digest, read_image_id
from sdbench.schema.base import Known, Unknown

IN_DOCKER = Known(value="docker")
OUTSIDE = Known(value="none")
DIGEST = "sha256:" + "1f" * 32
IMAGE_ID = "sha256:" + "2e" * 32


def host_facts(**changes: Any) -> dict[str, str]:
    facts = {
        "info": {"ServerVersion": "28.2.2", "Driver": "overlay2", "SecurityOptions": ["name=seccomp,profile=builtin"]},
        "image": {"Id": IMAGE_ID, "RepoDigests": [f"registry.example/sdbench@{DIGEST}"]},
        "toolkit": "NVIDIA Container Toolkit CLI version 1.17.8",
    }
    return {VARIABLE: json.dumps(facts | changes)}


def test_host_reports_engine_image_and_toolkit() -> None:
    engine = read_container_engine(host_facts(), IN_DOCKER)
    assert isinstance(engine, Known)
    assert engine.value.engine_version == Known(value="28.2.2")
    assert engine.value.security_options == Known(value=("name=seccomp,profile=builtin",))
    assert engine.value.nvidia_toolkit == Known(value="NVIDIA Container Toolkit CLI version 1.17.8")
    assert isinstance(engine.value.runtime, Unknown)
    assert read_image_id(host_facts(), IN_DOCKER) == Known(value=IMAGE_ID)
    assert read_image_digest(host_facts(), IN_DOCKER) == Known(value=DIGEST)


def test_image_that_is_in_no_registry_has_no_digest() -> None:
    digest = read_image_digest(host_facts(image={"Id": IMAGE_ID, "RepoDigests": []}), IN_DOCKER)
    assert isinstance(digest, Unknown)
    assert "in no registry" in digest.reason


def test_outside_a_container_nothing_of_it_is_believed() -> None:
    assert read_container_engine(host_facts(), OUTSIDE) == Unknown(reason="not in a container")
    assert read_image_id(host_facts(), OUTSIDE) == Unknown(reason="not in a container")


@pytest.mark.parametrize(
    "text", ["", "no json", "[1]", '{"info": 3, "image": 4}', "{" * 100_000, '{"x": "' + "y" * 20_000]
)
def test_malformed_host_facts_are_unknown(text: str) -> None:
    environ = {VARIABLE: text}
    assert isinstance(read_image_id(environ, IN_DOCKER), Unknown)
    assert isinstance(read_image_digest(environ, IN_DOCKER), Unknown)
    engine = read_container_engine(environ, IN_DOCKER)
    assert isinstance(engine, Unknown) or isinstance(engine.value.engine_version, Unknown)


def test_container_that_nobody_describes_says_how_to_start_it() -> None:
    engine = read_container_engine({}, IN_DOCKER)
    assert isinstance(engine, Unknown)
    assert "make bench-cpu" in engine.reason
