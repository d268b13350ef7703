"""A model hub on loopback: enough of its protocol to list a revision, download from it, refuse, and break off."""

import hashlib
import json
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Literal

HUB_ID = "org/tiny"
REVISION = "0123456789abcdef0123456789abcdef01234567"
_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass(frozen=True)
class ReceivedRequest:
    """A request of a client."""

    method: str
    path: str
    byte_range: str | None
    authorization: str | None


@dataclass
class Hub:
    """What the hub contains, how it behaves, and the requests that it received."""

    files: dict[str, bytes]
    # None serves everybody; otherwise who sends no such token gets 401, and anybody else's token 403.
    gate_token: str | None = None
    list_status: int | None = None
    listing: bytes | None = None
    break_off: Literal["never", "end early", "reset"] = "never"
    broken: set[str] = field(default_factory=set)
    breaks_per_file: int = 1
    unlisted: set[str] = field(default_factory=set)
    # What the hub calls the repository now.
    hub_id: str = ""
    requests: list[ReceivedRequest] = field(default_factory=list)
    endpoint: str = ""

    def tree(self) -> list[dict[str, object]]:
        """Return the listing of the revision."""
        entries: list[dict[str, object]] = []
        for path, content in self.files.items():
            entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
            if _is_large(path):
                entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        return entries

    def ranges_of(self, path: str) -> list[str | None]:
        """Return the Range header of every download of ``path``."""
        return [item.byte_range for item in self.requests if item.method == "GET" and item.path.endswith(path)]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` on a free port of loopback."""

    class Handler(_HubHandler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_endpoint() -> str:
    """Return an address on loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


class _HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Log nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.state.requests.append(
            ReceivedRequest(self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
        )
        if path.startswith(f"/api/models/{HUB_ID}/"):
            self._answer_api(path)
        elif path.startswith(f"/{HUB_ID}/resolve/"):
            self._answer_file(path, with_body=with_body)
        else:
            self._refuse(404, "RepoNotFound")

    def _answer_api(self, path: str) -> None:
        if self.state.list_status is not None:
            self._refuse(self.state.list_status, None)
        elif not path.endswith(REVISION):
            self._refuse(404, "RevisionNotFound")
        elif "/tree/" in path:
            self._send_json(json.dumps(self.state.tree()).encode())
        else:
            siblings = [{"rfilename": name} for name in self.state.files]
            answer = {"id": self.state.hub_id or HUB_ID, "sha": REVISION, "siblings": siblings}
            self._send_json(self.state.listing or json.dumps(answer).encode())

    def _answer_file(self, path: str, *, with_body: bool) -> None:
        revision, _, name = path.removeprefix(f"/{HUB_ID}/resolve/").partition("/")
        if self.state.gate_token is not None and (status := self._gate()) is not None:
            self._refuse(status, "GatedRepo")
        elif revision != REVISION:
            self._refuse(404, "RevisionNotFound")
        elif name not in self.state.files or name in self.state.unlisted:
            self._refuse(404, "EntryNotFound")
        else:
            self._send_file(name, self.state.files[name], with_body=with_body)

    def _gate(self) -> int | None:
        sent = self.headers.get("Authorization")
        if sent is None:
            return 401
        return None if sent == f"Bearer {self.state.gate_token}" else 403

    def _send_file(self, name: str, content: bytes, *, with_body: bool) -> None:
        match = _RANGE.fullmatch(self.headers.get("Range") or "")
        start = int(match[1]) if match else 0
        self.send_response(206 if match else 200)
        self.send_header("ETag", f'"{_sha256(content) if _is_large(name) else _git_oid(content)}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Accept-Ranges", "bytes")
        if match:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_body:
            self._send_body(name, content[start:])

    def _send_body(self, name: str, body: bytes) -> None:
        breaks = len(self.state.ranges_of(name)) <= self.state.breaks_per_file
        if name not in self.state.broken or not breaks:
            self.wfile.write(body)
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        if self.state.break_off == "reset":
            # Lingering for no time makes the kernel send a reset instead of an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        self.close_connection = True

    def _refuse(self, status: int, code: str | None) -> None:
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "refused")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
