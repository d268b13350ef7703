"""Object stores (S3, Google Cloud Storage, Azure) through obstore: one create-only PUT an object."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import EnvironmentProblem
from sdbench.privacy import strip_credentials
from sdbench.publish.destination import Destination
from sdbench.store.files import refuse_size

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, S3Credential

# The largest bundle (256 MiB) at 3.6 Mbit/s.
_TIMEOUT = timedelta(minutes=10)
_RETRIES_MAX = 5
# How long keys that may be temporary are used before botocore provides them again.
_CREDENTIALS_TIME = timedelta(minutes=30)
_CONFLICT_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)
_PROBE_WRITERS = 6
_PROBE_BYTES_MAX = 1024
_PROBE_PREFIX = ".sdbench-probe-"
# In the answers of S3 and Azure.
_ANSWER = re.compile(r"<Code>(?P<code>\w+)</Code>(?:\s*<Message>(?P<message>[^<]*))?")
_NETWORK_HINT = "check the network and run the same command again: nothing is half written"
_NO_BUCKET = "NoSuchBucket"
_NO_KEYS_HINT = "set AWS_PROFILE, or AWS_SKIP_SIGNATURE=true to read a public bucket"
_REFUSED = re.compile(r"credential|token|accesskey|signature|denied|expired", re.IGNORECASE)


class BucketDestination(Destination):
    """A folder of a bucket."""

    def __init__(self, url: str, store: "ObjectStore") -> None:
        self.url = strip_credentials(url).rstrip("/")
        self._store = store

    def create(self, name: str, content: bytes) -> bool:
        """Create a complete object; return False, and change nothing, if one of this name exists."""
        from obstore.exceptions import AlreadyExistsError

        is_new = False
        with _explained(f"write {name} to {self.url}"):
            for pause_s in (*_CONFLICT_PAUSES_S, None):
                try:
                    self._store.put(name, content, mode="create")
                    is_new = True
                    break
                except AlreadyExistsError:
                    # Also what S3 answers (409) while another writer is under way, who may fail.
                    if self._exists(name):
                        break
                    if pause_s is None:
                        raise
                    time.sleep(pause_s)
        return is_new

    def _exists(self, name: str) -> bool:
        try:
            self._store.head(name)
        except FileNotFoundError:
            return False
        return True

    def find(self, name: str, most_bytes: int) -> bytes | None:
        """Return an object's bytes, or None if there is none."""
        with _explained(f"read {name} from {self.url}"):
            try:
                answer = self._store.get(name)
            except FileNotFoundError as error:
                if _NO_BUCKET in str(error):
                    raise
                return None
            refuse_size(answer.meta["size"], most_bytes, f"{self.url}/{name}")
            return bytes(answer.bytes())

    def list_sizes(self) -> Mapping[str, int]:
        """Return the sizes (bytes) of all objects by name, without those of probes."""
        with _explained(f"list {self.url}"):
            sizes_bytes = {item["path"]: item["size"] for batch in self._store.list() for item in batch}
        return {name: size for name, size in sizes_bytes.items() if not name.startswith(_PROBE_PREFIX)}

    def probe(self) -> None:
        """Let several writers create one object: one must win, with its bytes. Many stores ignore "create only".

        Raises:
            EnvironmentProblem: several won, or none, or the store cannot be written.
        """
        name = f"{_PROBE_PREFIX}{secrets.token_hex(8)}"
        contents = [str(writer).encode() * 64 for writer in range(_PROBE_WRITERS)]
        # One after the other, then all at once: a store that checks first and then writes passes the first test only.
        first = self.create(f"{name}-1", b"1"), self.create(f"{name}-1", b"2")
        with ThreadPoolExecutor(_PROBE_WRITERS) as pool:
            won = list(pool.map(lambda content: self.create(f"{name}-2", content), contents))
        honoured = first == (True, False) and won.count(True) == 1
        honoured = honoured and self.read(f"{name}-2", _PROBE_BYTES_MAX) == contents[won.index(True)]
        with contextlib.suppress(EnvironmentProblem), _explained("clean up"):
            self._store.delete([f"{name}-1", f"{name}-2"])
        if not honoured:
            raise EnvironmentProblem(
                f"{self.url}: the store does not keep to create-only writes, so a run could replace another; "
                "publish to one that does (S3, Google Cloud Storage, Azure, a folder)"
            )


def open_bucket(url: str) -> BucketDestination:
    """Return the store at the URL of a bucket or of a folder in it.

    Raises:
        EnvironmentProblem: obstore is not installed, or the store's configuration is invalid.
    """
    shown = strip_credentials(url)
    try:
        from obstore.store import from_url

        with _explained(f"open {shown}", "check the address, and the environment variables of this kind of store"):
            client: ClientConfig = {"allow_http": True, "timeout": _TIMEOUT}
            options: dict[str, Any] = {"client_options": client, "retry_config": {"max_retries": _RETRIES_MAX}}
            store = from_url(url, **options | (_s3_options(client) if url.startswith("s3") else {}))
    except ImportError as error:
        raise EnvironmentProblem(f"{shown}: {error}; install the extra: pip install 'sdbench[publish]'") from None
    return BucketDestination(url, store)


def _s3_options(client: "ClientConfig") -> dict[str, Any]:
    """Return what botocore finds in ~/.aws and obstore does not: credentials, region, endpoint; and the CA bundle."""
    from botocore.session import Session

    session = Session()

    def provide() -> "S3Credential":
        credentials = session.get_credentials()
        if credentials is None:
            raise ValueError("no AWS credentials found")
        keys = credentials.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_TIME,
        }

    config: dict[str, str] = {}
    if region := os.environ.get("AWS_REGION") or session.get_config_variable("region"):
        config["region"] = region
    endpoint = session.get_scoped_config().get("endpoint_url")
    if endpoint and not any(name.startswith("AWS_ENDPOINT") for name in os.environ):
        config["endpoint"] = endpoint
    if bundle := session.get_config_variable("ca_bundle"):
        client["root_certificate"] = Path(bundle).read_bytes()
    return {"config": config, "credential_provider": provide}


@contextlib.contextmanager
def _explained(doing: str, hint: str = _NETWORK_HINT) -> Iterator[None]:
    """Raise EnvironmentProblem, one line with a hint, in place of the errors of the libraries; others are bugs."""
    from botocore.exceptions import BotoCoreError
    from obstore.exceptions import BaseError

    try:
        yield
    # obstore raises NotImplementedError for what a kind of store does not offer.
    except (BaseError, BotoCoreError, OSError, ValueError, NotImplementedError) as error:
        text, known_hint = _describe(error)
        if text.startswith(_NO_BUCKET):
            # The name of the object, which may be a probe's, says nothing here.
            url = doing.rpartition(" ")[2]
            raise EnvironmentProblem(f"{url}: the bucket does not exist; create it, or correct its name") from None
        raise EnvironmentProblem(f"cannot {doing}: {strip_credentials(text)}; {known_hint or hint}") from None


def _describe(error: Exception) -> tuple[str, str | None]:
    """Return the store's or the library's message, and a hint where the cause is known."""
    from botocore.exceptions import BotoCoreError
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    answer = _ANSWER.search(str(error))
    # After the request, and before the dump of the library's own error or a page.
    text = str(error).partition("\n\nDebug source")[0].rpartition(" - ")[2].partition("<")[0]
    code, text = (answer["code"], f"{answer['code']}: {answer['message'] or ''}") if answer else (text, text)
    text = " ".join(text.split())[:200].strip(": ") or type(error).__name__
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError | BotoCoreError)
    hints = (
        # A message may name the object, so an answer's code decides.
        ("no AWS credentials" in text, _NO_KEYS_HINT),
        (refused or _REFUSED.search(code), "check the credentials, and that they are not expired"),
        ("region" in text, "set AWS_REGION to the region of the bucket"),
        ("invalid path" in text, "remove that object, or use another folder"),
        (isinstance(error, NotImplementedError), "this kind of store cannot do it; use another"),
    )
    return text, next((hint for applies, hint in hints if applies), None)
