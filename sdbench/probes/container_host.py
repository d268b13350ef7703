"""What a container cannot see of its host: the launcher hands it in, as fields of Docker's own answers."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import ContainerEngine

# A JSON object: "info" with the fields of launch/host_facts.txt, "image" with Id and RepoDigests, "toolkit".
VARIABLE = "SDBENCH_CONTAINER_HOST"

_DIGEST = re.compile(r"(?:[^@\s]+@)?(?P<digest>sha256:[0-9a-f]{64})")
_MAX_CHARACTERS = 16_384
_MAX_TEXT_CHARACTERS = 200
_NOT_TOLD = Unknown(
    reason=f"{VARIABLE} does not tell it; start the container with make bench-cpu, bench-gpu or sdbench launch"
)


def read_container_engine(environ: Mapping[str, str], container: Reading[str]) -> Reading[ContainerEngine]:
    """Return what is known of the engine that runs this container; unknown outside of one."""
    if isinstance(container, Known) and container.value == "none":
        return Unknown(reason="not in a container")
    told = _told(environ)
    if isinstance(told, Unknown):
        return told
    given = told.get("info")
    info: dict[str, Any] = given if isinstance(given, dict) else {}
    return Known(
        value=ContainerEngine(
            engine_version=_text(info, "ServerVersion"),
            host_os=_text(info, "OperatingSystem"),
            runtime=_text(info, "DefaultRuntime"),
            storage_driver=_text(info, "Driver"),
            cgroup_driver=_text(info, "CgroupDriver"),
            cgroup_version=_text(info, "CgroupVersion"),
            security_options=_texts(info, "SecurityOptions"),
            nvidia_toolkit=_text(told, "toolkit"),
        )
    )


def read_image_id(environ: Mapping[str, str], container: Reading[str]) -> Reading[str]:
    """Return the id (sha256:...) under which the engine keeps this container's image; unknown outside of one."""
    if isinstance(container, Known) and container.value == "none":
        return Unknown(reason="not in a container")
    image = _image(environ)
    if isinstance(image, Unknown):
        return image
    match = _DIGEST.fullmatch(str(image.get("Id", "")))
    return Known(value=match["digest"]) if match else Unknown(reason=f"{VARIABLE}: the image's id is no digest")


def read_image_digest(environ: Mapping[str, str], container: Reading[str]) -> Reading[str]:
    """Return the digest by which a registry serves this container's image; unknown outside of one."""
    declared = environ.get("SDBENCH_IMAGE_DIGEST", "")
    if match := _DIGEST.fullmatch(declared):
        return Known(value=match["digest"])
    if declared:
        return Unknown(reason="SDBENCH_IMAGE_DIGEST is no digest (sha256:...)")
    if isinstance(container, Known) and container.value == "none":
        return Unknown(reason="not in a container")
    image = _image(environ)
    if isinstance(image, Unknown):
        return image
    digests = image.get("RepoDigests")
    found = [match["digest"] for item in digests or () if (match := _DIGEST.fullmatch(str(item)))]
    if found:
        return Known(value=found[0])
    return Unknown(reason="the image was built on this host and is in no registry; its id says which it is")


def _told(environ: Mapping[str, str]) -> dict[str, Any] | Unknown:
    text = environ.get(VARIABLE)
    if text is None:
        return _NOT_TOLD
    try:
        told = json.loads(text) if len(text) <= _MAX_CHARACTERS else None
    except (ValueError, RecursionError):
        told = None
    return told if isinstance(told, dict) else Unknown(reason=f"{VARIABLE} is no JSON object of a sensible size")


def _image(environ: Mapping[str, str]) -> dict[str, Any] | Unknown:
    told = _told(environ)
    if isinstance(told, Unknown):
        return told
    image = told.get("image")
    return image if isinstance(image, dict) else _NOT_TOLD


def _text(fields: Mapping[str, Any], name: str) -> Reading[str]:
    value = fields.get(name)
    if isinstance(value, str) and value:
        return Known(value=value[:_MAX_TEXT_CHARACTERS])
    return Unknown(reason=f"the host does not tell {name}")


def _texts(fields: Mapping[str, Any], name: str) -> Reading[tuple[str, ...]]:
    value = fields.get(name)
    if isinstance(value, list):
        return Known(value=tuple(str(item)[:_MAX_TEXT_CHARACTERS] for item in value))
    return Unknown(reason=f"the engine does not tell {name}")
