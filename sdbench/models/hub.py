"""The files of a pinned revision, from the hub or from its cache: safetensors only."""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sdbench.errors import UserError, WeightsUnavailable
from sdbench.models.hub_errors import explain, is_broken_connection
from sdbench.models.libraries import quieten_hub
from sdbench.privacy import strip_credentials
from sdbench.schema.experiment import REVISION_FORM

_COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHT_FILES: dict[str, str] = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
CONFIG_FILES: dict[str, str] = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "scheduler": "scheduler/scheduler_config.json",
}
# Repositories carry the tokenizer as one file, as the older pair, or as both.
_TOKENIZER_CHOICES: tuple[tuple[str, ...], ...] = (
    ("tokenizer/tokenizer.json",),
    ("tokenizer/vocab.json", "tokenizer/merges.txt"),
)
_TOKENIZER_EXTRAS = ("tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json")
REQUIRED_FILES = (*CONFIG_FILES.values(), *WEIGHT_FILES.values())
WANTED_FILES = (*REQUIRED_FILES, *(name for choice in _TOKENIZER_CHOICES for name in choice), *_TOKENIZER_EXTRAS)
_PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
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

    if revision is None or not _COMMIT.fullmatch(revision):
        raise UserError(f"revision is {revision!r}: expected {REVISION_FORM}")
    try:
        validate_repo_id(hub_id or "")
    except HFValidationError:
        raise UserError(f"model.hub_id {hub_id!r} is not a repository; write it as owner/name") from None
    return str(hub_id), revision


def find_cached(pin: Pin) -> Path | None:
    """Return the folder of ``pin`` in its cache, None unless it has every file that is loaded."""
    folder = pin.cache_folder / f"models--{pin.hub_id.replace('/', '--')}" / "snapshots" / pin.revision
    missing = _missing_files([name for name in WANTED_FILES if (folder / name).is_file()])
    return None if missing else folder


def fetch_snapshot(pin: Pin, sleep: Callable[[float], None] = time.sleep) -> Path:
    """Return the folder with the files of ``pin``, downloading those that are missing in the cache.

    The network is not used when the cache is complete.

    Raises:
        WeightsUnavailable: the hub cannot be reached, refuses, or does not have the revision or a file.
    """
    import httpx2
    from huggingface_hub import constants

    token = read_token()
    if (cached := find_cached(pin)) is not None:
        return cached
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    # hf_xet raises RuntimeError; a server that is not a hub makes the library raise the rest.
    errors = (OSError, ValueError, TypeError, KeyError, RuntimeError, httpx2.HTTPError, httpx2.InvalidURL)
    attempts = count(1)
    while True:
        try:
            return _download(pin, endpoint, token)
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


def _download(pin: Pin, endpoint: str, token: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    quieten_hub()
    # False rather than None: a login stored on this machine must not decide what a manifest gets.
    shared: dict[str, Any] = {"repo_id": pin.hub_id, "revision": pin.revision}
    api = HfApi(endpoint=endpoint, token=token or False)
    _check_listing([entry.path for entry in api.list_repo_tree(**shared, recursive=True)], pin)
    folder = snapshot_download(
        **shared, endpoint=endpoint, token=token or False, cache_dir=pin.cache_folder, allow_patterns=list(WANTED_FILES)
    )
    return Path(folder)


def _check_listing(paths: Sequence[str], pin: Pin) -> None:
    folders = {name.partition("/")[0] for name in _missing_files(paths)}
    if pickles := [path for path in paths if path.endswith(_PICKLE_SUFFIXES) and path.partition("/")[0] in folders]:
        raise WeightsUnavailable(
            f"{pin.hub_id} at {pin.revision} has only pickled weights ({', '.join(sorted(pickles))}), "
            "which can run code when loaded; pin a revision that has safetensors"
        )
    if missing := _missing_files(paths):
        raise WeightsUnavailable(
            f"{pin.hub_id} at {pin.revision} has no {', '.join(missing)}; "
            "pin a revision with a Stable Diffusion pipeline in diffusers' layout"
        )


def _missing_files(paths: Sequence[str]) -> list[str]:
    present = set(paths)
    missing = [name for name in REQUIRED_FILES if name not in present]
    if not any(present.issuperset(choice) for choice in _TOKENIZER_CHOICES):
        missing += [name for name in _TOKENIZER_CHOICES[-1] if name not in present]
    return missing
