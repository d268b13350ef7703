"""What the hub's refusals mean for the user: one line each, with the remedy, and never the token."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import EACCES, EDQUOT, EEXIST, ENOSPC, ENOTDIR, EPERM, EROFS
from http import HTTPStatus
from pathlib import Path

from sdbench.errors import WeightsUnavailable

_FULL_DISK = (ENOSPC, EDQUOT)
_NOT_WRITABLE = (EACCES, EEXIST, ENOTDIR, EPERM, EROFS)


@dataclass(frozen=True)
class HubRequest:
    """What was asked of which hub. The token stays out of the representation."""

    hub_id: str
    revision: str
    endpoint: str
    token: str | None = field(repr=False)
    cache_folder: Path


def explain(error: BaseException, request: HubRequest) -> WeightsUnavailable:
    """Return the error to show for what huggingface_hub raised."""
    chain = tuple(_chain_of(error))
    for explanation in (_explain_refusal, _explain_connection, _explain_disk):
        if (text := explanation(chain, request)) is not None:
            return WeightsUnavailable(text)
    return WeightsUnavailable(
        f"{request.hub_id} at {request.revision} could not be downloaded from {request.endpoint} "
        f"({type(error).__name__}); check HF_ENDPOINT and the network, then run again"
    )


def is_broken_connection(error: BaseException) -> bool:
    """Return whether trying again can help: the connection was there, and broke while data flowed."""
    import httpx2

    if any(isinstance(link, httpx2.ConnectError) for link in _chain_of(error)):
        return False
    broken = (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ReadTimeout)
    return any(isinstance(link, broken) or _is_short_file(link) for link in _chain_of(error))


def _chain_of(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _is_short_file(error: BaseException) -> bool:
    # huggingface_hub has no class of its own for a file that came out shorter than announced.
    return type(error) is OSError and "Consistency check failed" in str(error)


def _explain_refusal(chain: tuple[BaseException, ...], request: HubRequest) -> str | None:
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RevisionNotFoundError

    refusal = next((link for link in chain if isinstance(link, HfHubHTTPError)), None)
    if refusal is None:
        return None
    status, name = refusal.response.status_code, request.hub_id
    page = f"{request.endpoint}/{name}"
    match refusal:
        case GatedRepoError():
            return _explain_gate(status, page, request)
        case RevisionNotFoundError():
            return f"{name} has no revision {request.revision}; copy a commit's 40 hex digits from {page}/commits/main"
        case EntryNotFoundError():
            return f"{name} at {request.revision} lacks a file that it lists ({status}); pin another revision"
        case _:
            return _explain_status(status, request)


def _explain_status(status: int, request: HubRequest) -> str:
    what = f"{request.endpoint} answered {status} when asked for {request.hub_id}"
    if status == HTTPStatus.UNAUTHORIZED and request.token is not None:
        return f"{what}; the token may be invalid: set HF_TOKEN to a valid read token, and check model.hub_id"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return f"{what}; check model.hub_id, and set HF_TOKEN to a read token if the repository is private"
    if status == HTTPStatus.FORBIDDEN:
        return f"{what}; set HF_TOKEN to a token that may read it"
    return f"{what}; try again later"


def _explain_gate(status: int, page: str, request: HubRequest) -> str:
    if request.token is None:
        return f"{request.hub_id} is gated ({status}); accept its terms on {page}, then set HF_TOKEN to your read token"
    return (
        f"{request.hub_id} is gated, and the account of the token has no access ({status}); "
        f"accept its terms on {page} with that account, or set HF_TOKEN to another account's token"
    )


def _explain_connection(chain: tuple[BaseException, ...], request: HubRequest) -> str | None:
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    what = f"{request.hub_id} at {request.revision}"
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        return f"{what} is not in {request.cache_folder}, and HF_HUB_OFFLINE is set; unset it for one run to download"
    if any(is_broken_connection(link) for link in chain):
        return (
            f"the connection to {request.endpoint} broke again and again while {what} was downloaded; "
            "run again: finished files are kept"
        )
    if any(isinstance(link, httpx2.TransportError) for link in chain):
        return (
            f"no connection to {request.endpoint} for {what}; check the network and HF_ENDPOINT, "
            f"or copy a filled cache to {request.cache_folder}"
        )
    return None


def _explain_disk(chain: tuple[BaseException, ...], request: HubRequest) -> str | None:
    for link in chain:
        code = link.errno if isinstance(link, OSError) else None
        if code in _FULL_DISK:
            return f"the disk of {request.cache_folder} is full; free some space and run again: finished files are kept"
        if code in _NOT_WRITABLE:
            return f"{request.cache_folder} cannot be written; choose another folder or correct its permissions"
    return None
