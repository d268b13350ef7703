"""What a container cannot see of its host: whoever starts it puts fields of Docker's answers into a variable."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sdbench.probes.readings import ReadingFailed, as_reading, value_or
from sdbench.probes.torch_build import NONE
from sdbench.schema.base import Reading
from sdbench.schema.fingerprint import ContainerEngine

# A JSON object: "info" with the fields of containers/host_facts.txt, "image" with Id and RepoDigests, "toolkit".
VARIABLE = "SDBENCH_CONTAINER_HOST"

_DIGEST = re.compile(r"(?:[^@\s]+@)?(?P<digest>sha256:[0-9a-f]{64})")
_MAX_CHARACTERS = 16_384
_MAX_TEXT_CHARACTERS = 200
_NOT_REPORTED = (
    f"{VARIABLE} does not report it; start the container with make bench-cpu, bench-gpu or sdbench run --image"
)


@as_reading
def read_container_engine(environ: Mapping[str, str], container: Reading[str]) -> ContainerEngine:
    """Return what is known of the engine that runs this container; unknown outside of one."""
    facts = _host_facts(environ, container)
    given = facts.get("info")
    info = given if isinstance(given, dict) else {}
    return ContainerEngine(
        engine_version=_text(info, "ServerVersion"),
        host_os=_text(info, "OperatingSystem"),
        runtime=_text(info, "DefaultRuntime"),
        storage_driver=_text(info, "Driver"),
        cgroup_driver=_text(info, "CgroupDriver"),
        cgroup_version=_text(info, "CgroupVersion"),
        security_options=_texts(info, "SecurityOptions"),
        nvidia_toolkit=_text(facts, "toolkit"),
    )


@as_reading
def read_image_id(environ: Mapping[str, str], container: Reading[str]) -> str:
    """Return the id (sha256:...) under which the engine keeps this container's image; unknown outside of one."""
    match = _DIGEST.fullmatch(str(_image(environ, container).get("Id", "")))
    if match is None:
        raise ReadingFailed(f"{VARIABLE}: the image's id is not a digest")
    return match["digest"]


@as_reading
def read_image_digest(environ: Mapping[str, str], container: Reading[str]) -> str:
    """Return the digest by which a registry serves this container's image; unknown outside of one."""
    declared = environ.get("SDBENCH_IMAGE_DIGEST", "")
    if match := _DIGEST.fullmatch(declared):
        return match["digest"]
    if declared:
        raise ReadingFailed("SDBENCH_IMAGE_DIGEST is not a digest (sha256:...)")
    for item in _image(environ, container).get("RepoDigests") or ():
        if match := _DIGEST.fullmatch(str(item)):
            return match["digest"]
    raise ReadingFailed("the image was built on this host and is in no registry; see its id")


def _host_facts(environ: Mapping[str, str], container: Reading[str]) -> dict[str, Any]:
    if value_or(container, "") == NONE:
        raise ReadingFailed("not in a container")
    text = environ.get(VARIABLE)
    if text is None:
        raise ReadingFailed(_NOT_REPORTED)
    try:
        facts = json.loads(text) if len(text) <= _MAX_CHARACTERS else None
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise ReadingFailed(f"{VARIABLE} is not a JSON object of a sensible size")
    return facts


def _image(environ: Mapping[str, str], container: Reading[str]) -> dict[str, Any]:
    image = _host_facts(environ, container).get("image")
    if not isinstance(image, dict):
        raise ReadingFailed(_NOT_REPORTED)
    return image


@as_reading
def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise ReadingFailed(f"the host does not report {name}")
    return value[:_MAX_TEXT_CHARACTERS]


@as_reading
def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise ReadingFailed(f"the host does not report {name}")
    return tuple(str(item)[:_MAX_TEXT_CHARACTERS] for item in value)
