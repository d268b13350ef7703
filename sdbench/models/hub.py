"""The files of a pinned revision, from the hub or from its cache: safetensors only."""

import json
import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sdbench.errors import UserError, WeightsUnavailable
from sdbench.models.diffusers_layout import (
    INDEX_FILE,
    config_files,
    find_pickles,
    missing_files,
    tokenizer_files,
    wanted_files,
)
from sdbench.models.hub_errors import explain, is_broken_connection
from sdbench.models.libraries import quieten_hub
from sdbench.privacy import strip_credentials
from sdbench.schema.experiment import REVISION_FORM

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKEN_VARIABLES = ("HF_TOKEN", "ACCESS_TOKEN")
# The library resumes a stream that ends early, but gives up when the connection is reset: then the file starts again.
_ATTEMPTS = 5
_RETRY_WAIT_S = 2.0


@dataclass(frozen=True)
class Pin:
    """A repository at one commit, and the folder that caches it."""

    hub_id: str
    revision: str
    cache_folder: Path


def check_pin(hub_id: str | None, revision: str | None) -> tuple[str, str]:
    """Return hub id and revision when they name exactly one set of weights.

    Raises:
        UserError: the hub id is not ``owner/name``, or the revision not a full commit hash.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if not hub_id or not revision:
        raise UserError("pretrained weights need hub_id (OWNER/NAME) and revision (a commit hash); set both")
    if not _COMMIT.fullmatch(revision):
        raise UserError(f"revision is {revision!r}: expected {REVISION_FORM}")
    try:
        # Without an owner the hub has repositories of its own, which no manifest means.
        validate_repo_id(hub_id if "/" in hub_id else "")
    except HFValidationError:
        raise UserError(f"model.hub_id {hub_id!r} is not a repository; write it as owner/name") from None
    return hub_id, revision


def find_cached(pin: Pin, *, configs_only: bool = False) -> Path | None:
    """Return the folder of ``pin`` in its cache, None unless it has every file that is loaded."""
    folder = pin.cache_folder / f"models--{pin.hub_id.replace('/', '--')}" / "snapshots" / pin.revision
    try:
        index = dict(json.loads((folder / INDEX_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    paths = list_files(folder)
    missing = set(config_files(index)).difference(paths) if configs_only else missing_files(paths, index)
    return None if missing else folder


def list_files(folder: Path) -> tuple[str, ...]:
    """Return the files of a pipeline's folder, and of the folders in it, by their paths within."""
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    return tuple(sorted(path.relative_to(folder).as_posix() for path in paths))


def fetch_snapshot(pin: Pin, sleep: Callable[[float], None] = time.sleep, *, configs_only: bool = False) -> Path:
    """Return the folder with the files of ``pin``, downloading those that are missing in the cache.

    The network is not used when the cache is complete. ``configs_only`` leaves out the weights: a few kB.

    Raises:
        WeightsUnavailable: the hub cannot be reached, refuses, or does not have the revision or a file.
    """
    import httpx2
    from huggingface_hub import constants

    token = read_token()
    if (cached := find_cached(pin, configs_only=configs_only)) is not None:
        return cached
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    # hf_xet raises RuntimeError; a server that is not a hub makes the library raise the rest.
    errors = (OSError, ValueError, TypeError, KeyError, RuntimeError, httpx2.HTTPError, httpx2.InvalidURL)
    attempts = count(1)
    while True:
        try:
            return _download(pin, endpoint, token, configs_only=configs_only)
        except errors as error:
            # The library's own text may quote headers, and with them the token: only our own text is shown.
            if not is_broken_connection(error) or next(attempts) == _ATTEMPTS:
                raise explain(error, pin, strip_credentials(endpoint), sent_token=token is not None) from None
            sleep(_RETRY_WAIT_S)


def read_token() -> str | None:
    """Return the token from HF_TOKEN or ACCESS_TOKEN, or None when neither is set.

    Raises:
        WeightsUnavailable: a variable contains characters that no header can carry.
    """
    for variable in _TOKEN_VARIABLES:
        token = os.environ.get(variable, "").strip()
        if not re.fullmatch(r"[\x21-\x7e]*", token):
            raise WeightsUnavailable(
                f"{variable} contains characters that no token has; copy the token again, or unset it"
            )
        if token:
            return token
    return None


def _download(pin: Pin, endpoint: str, token: str | None, *, configs_only: bool) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    quieten_hub()
    # False rather than None: a login stored on this machine must not decide what a manifest gets.
    shared: dict[str, Any] = {"repo_id": pin.hub_id, "revision": pin.revision}
    where: dict[str, Any] = {"endpoint": endpoint, "token": token or False, "cache_dir": pin.cache_folder}
    api = HfApi(endpoint=endpoint, token=token or False)
    repository = api.model_info(**shared)
    if repository.id != pin.hub_id:
        raise WeightsUnavailable(f"{pin.hub_id} is called {repository.id} now; set hub_id to that")
    paths = [entry.rfilename for entry in repository.siblings or ()]
    if INDEX_FILE not in paths:
        raise _explain_missing([INDEX_FILE], pin)
    index = _read_index(Path(hf_hub_download(**shared, filename=INDEX_FILE, **where)), pin)
    if configs_only:
        missing = [name for name in config_files(index) if name not in paths]
        wanted = [*config_files(index), *tokenizer_files(index, settings_only=True)]
    else:
        missing, wanted = missing_files(paths, index), wanted_files(paths, index)
        _refuse_pickles(find_pickles(paths, missing), pin)
    if missing:
        raise _explain_missing(missing, pin)
    return Path(snapshot_download(**shared, allow_patterns=wanted, **where))


def _read_index(path: Path, pin: Pin) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        problem = f"{pin.hub_id} at {pin.revision}: {INDEX_FILE} is not a JSON object"
        raise WeightsUnavailable(f"{problem}; pin another revision") from None


def _refuse_pickles(pickles: Collection[str], pin: Pin) -> None:
    if pickles:
        raise WeightsUnavailable(
            f"{pin.hub_id} at {pin.revision} has only pickled weights ({', '.join(pickles)}), "
            "which can run code when loaded; pin a revision that has safetensors"
        )


def _explain_missing(missing: Collection[str], pin: Pin) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"{pin.hub_id} at {pin.revision} has no {', '.join(missing)}; "
        "pin a revision with a text-to-image pipeline in diffusers' layout"
    )
