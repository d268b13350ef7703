"""Bundles on a plain web server, found through its index pages. It is read only.

Not through obstore, whose HTTP store lists by WebDAV and needs to know a size before it reads.
"""

import base64
import html
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from sdbench.errors import EnvironmentProblem
from sdbench.privacy import strip_credentials
from sdbench.publish.destination import Destination
from sdbench.store.files import refuse_size

_TIMEOUT_S = 60
# A link takes about 150 bytes: 100,000 runs.
_PAGE_BYTES_MAX = 2**24
_LINK = re.compile(r"""<a\s[^<>]*?href=["']([^"'<>]+)["']""", re.IGNORECASE)


class WebDestination(Destination):
    """A folder of a web server."""

    def __init__(self, url: str) -> None:
        self.url = strip_credentials(url).rstrip("/")
        parts = urlsplit(url)
        self._base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._authorization = f"Basic {base64.b64encode(user.encode()).decode()}" if parts.username else None

    def probe(self) -> None:
        """Refuse: nothing can be written."""
        self.create("", b"")

    def create(self, name: str, content: bytes) -> bool:  # noqa: ARG002 - of the base class
        """Refuse with EnvironmentProblem: a web server is only read."""
        raise EnvironmentProblem(f"{self.url}: a web server takes no runs; publish to a folder or bucket")

    def find(self, name: str, most_bytes: int) -> bytes | None:
        """Return an object's bytes, or None if there is none."""
        try:
            request = urllib.request.Request(f"{self._base}/{name}")  # noqa: S310 - opened for http and https only
            if self._authorization is not None:
                # Not sent to where the server redirects.
                request.add_unredirected_header("Authorization", self._authorization)
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                # A server may report one size and send another.
                content: bytes = answer.read(most_bytes + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            code = error.code if isinstance(error, urllib.error.HTTPError) else None
            if code in (404, 410):
                return None
            text = strip_credentials(" ".join(str(error).split()))[:200]
            hint = "check the credentials" if code in (401, 403) else "check the address and the network"
            raise EnvironmentProblem(f"cannot read {self.url}/{name}: {text}; {hint}") from None
        refuse_size(len(content), most_bytes, f"{self.url}/{name}")
        return content

    def list_sizes(self) -> Mapping[str, int]:
        """Return the names of what the index pages link to one folder down, each with 0."""
        folders = [name for name in self._links("") if name.endswith("/")]
        return dict.fromkeys(
            (f"{folder}{name}" for folder in folders for name in self._links(folder) if not name.endswith("/")), 0
        )

    def _links(self, folder: str) -> list[str]:
        """Return the names in a folder that its index page links to, sorted; those of folders end with a slash."""
        page = self.find(folder, _PAGE_BYTES_MAX) or b""
        base = f"{self._base}/{folder}"
        links = {urljoin(base, html.unescape(link)) for link in _LINK.findall(page.decode(errors="replace"))}
        names = (link.removeprefix(base) for link in links if link.startswith(base))
        return sorted(name for name in names if re.fullmatch(r"[^/?#]+/?", name))
