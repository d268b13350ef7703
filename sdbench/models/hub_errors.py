"""What the hub's refusals mean for the user: one line each, with the hint, and never the token."""

from collections.abc import Iterator
from errno import EACCES, EDQUOT, EEXIST, ENOSPC, ENOTDIR, EPERM, EROFS
from http import HTTPStatus
from typing import TYPE_CHECKING

from sdbench.errors import WeightsUnavailable
from sdbench.probes.out_of_memory import where_memory_ran_out

if TYPE_CHECKING:
    from sdbench.models.hub import Pin

# One cause, one line. Cases of a status depend on whether a token was sent.
_MESSAGES = {
    "gated, without token": (
        "{hub_id} is gated ({status}); accept its terms on {page}, then set HF_TOKEN to your read token"
    ),
    "gated, with token": (
        "{hub_id} is gated, and the account of the token has no access ({status}); accept its terms on {page} with "
        "that account, or set HF_TOKEN to another account's token"
    ),
    "no revision": "{hub_id} has no revision {revision}; copy a commit's 40 hex digits from {page}/commits/main",
    "no file": "{what} does not have a file that it lists ({status}); pin another revision",
    "bad token": ("{answer}; the token may be invalid: set HF_TOKEN to a valid read token, and check model.hub_id"),
    "no repository": "{answer}; check model.hub_id, and set HF_TOKEN to a read token if the repository is private",
    "forbidden": "{answer}; set HF_TOKEN to a token that may read it",
    "other status": "{answer}; try again later",
    "offline": "{what} is not in {cache_folder}, and HF_HUB_OFFLINE is set; unset it for one run to download",
    "broken": (
        "the connection to {endpoint} broke again and again while {what} was downloaded; "
        "run again: finished files are kept"
    ),
    "no connection": (
        "no connection to {endpoint} for {what}; check the network and HF_ENDPOINT, "
        "or copy a filled cache to {cache_folder}"
    ),
    "full disk": "the disk of {cache_folder} is full; free some space and run again: finished files are kept",
    "not writable": "{cache_folder} cannot be written; choose another folder or correct its permissions",
    "other error": (
        "{what} could not be downloaded from {endpoint} ({error}); check HF_ENDPOINT and the network, then run again"
    ),
}
_CAUSE_OF_STATUS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "no repository",
    HTTPStatus.NOT_FOUND: "no repository",
    HTTPStatus.FORBIDDEN: "forbidden",
}
_CAUSE_OF_ERRNO = dict.fromkeys((ENOSPC, EDQUOT), "full disk") | dict.fromkeys(
    (EACCES, EEXIST, ENOTDIR, EPERM, EROFS), "not writable"
)


def explain(error: BaseException, pin: "Pin", endpoint: str, *, sent_token: bool) -> Exception:
    """Return the error to show for what huggingface_hub raised: MemoryError where the host's memory ran out."""
    from huggingface_hub.errors import HfHubHTTPError

    if any(map(where_memory_ran_out, chain_of(error))):
        return MemoryError(f"no memory on the host to download {pin.hub_id} at {pin.revision} ({type(error).__name__})")
    refusal = next((link for link in chain_of(error) if isinstance(link, HfHubHTTPError)), None)
    status = refusal.response.status_code if refusal else 0
    cause = _find_refusal(refusal, status, sent_token=sent_token) if refusal else _find_local_cause(error)
    return WeightsUnavailable(
        _MESSAGES[cause].format(
            **vars(pin),
            endpoint=endpoint,
            status=status,
            error=type(error).__name__,
            page=f"{endpoint}/{pin.hub_id}",
            what=f"{pin.hub_id} at {pin.revision}",
            answer=f"{endpoint} answered {status} when asked for {pin.hub_id}",
        )
    )


def is_broken_connection(error: BaseException) -> bool:
    """Return whether trying again can help: the connection was there, and broke while data flowed."""
    import httpx2

    chain = tuple(chain_of(error))
    if any(isinstance(link, httpx2.ConnectError) for link in chain):
        return False
    broken = (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ReadTimeout)
    # huggingface_hub has no class of its own for a file that came out shorter than announced.
    return any(
        isinstance(link, broken) or (type(link) is OSError and "Consistency check failed" in str(link))
        for link in chain
    )


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it came from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _find_refusal(refusal: BaseException, status: int, *, sent_token: bool) -> str:
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RevisionNotFoundError

    match refusal:
        case GatedRepoError():
            return "gated, with token" if sent_token else "gated, without token"
        case RevisionNotFoundError():
            return "no revision"
        case EntryNotFoundError():
            return "no file"
        case _ if status == HTTPStatus.UNAUTHORIZED and sent_token:
            return "bad token"
        case _:
            return _CAUSE_OF_STATUS.get(status, "other status")


def _find_local_cause(error: BaseException) -> str:
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    chain = tuple(chain_of(error))
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        return "offline"
    if is_broken_connection(error):
        return "broken"
    if any(isinstance(link, httpx2.TransportError) for link in chain):
        return "no connection"
    errors = (_CAUSE_OF_ERRNO.get(link.errno or 0) for link in chain if isinstance(link, OSError))
    return next(filter(None, errors), "other error")
