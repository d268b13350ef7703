"""Publish runs to a destination, and pull them from one.

An object is called ``<run id>/<SHA-256>.zip``, its signature ``<run id>/<SHA-256>.zip.sig``. Before it comes
``<run id>/bundle.sha256``, which one publisher can create: it names the one content that the run has there. Nothing is
ever replaced.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from sdbench.errors import RecordError, UserError
from sdbench.privacy import strip_credentials
from sdbench.publish.archive import ARCHIVE_BYTES_MAX, ARCHIVE_ENDING, PublishedBundle, read_bundle
from sdbench.publish.bucket import open_bucket
from sdbench.publish.bundle import export_bundle
from sdbench.publish.destination import REQUESTS_AT_ONCE, Destination, FolderDestination, read_all
from sdbench.publish.signature import SIGNATURE_BYTES_MAX, SIGNATURE_ENDING, check_signature, sign
from sdbench.publish.web import WebDestination
from sdbench.store.bundle import load_record
from sdbench.store.files import read_file, write_whole_folder
from sdbench.store.layout import RECORD_BYTES_MAX, RECORD_NAME

SIGNATURE_NAME = "bundle.zip.sig"
ADDRESS_NAME = "bundle.sha256"
_ADDRESS_BYTES_MAX = 1024
_OBJECT = re.compile(r"(?P<run_id>[A-Za-z0-9][A-Za-z0-9._-]{0,199})/(?P<sha256>[0-9a-f]{64})\.zip")

Fate = Literal["new", "already present", "filtered out", "refused"]


def bundles_in(folder: Path) -> tuple[Path, ...]:
    """Return the bundles in a folder that runs were published to, by name."""
    paths = sorted(folder.glob("*/*.zip"))
    return tuple(path for path in paths if _OBJECT.fullmatch(path.relative_to(folder).as_posix()))


@dataclass(frozen=True)
class Transfer:
    """What became of one run: its id, the SHA-256 of its bundle, where it is now, and why it was refused."""

    run_id: str
    sha256: str
    fate: Fate
    place: str = ""
    problem: UserError | None = None
    # None without a key; False if a signature existed, which is kept.
    is_signed_now: bool | None = None

    @property
    def object_name(self) -> str:
        """The name of the bundle at the destination."""
        return f"{self.run_id}/{self.sha256}{ARCHIVE_ENDING}"


def open_destination(url: str) -> Destination:
    """Return the store at a path or URL.

    Raises:
        UserError: no such kind of store.
        EnvironmentProblem: a package that it needs is not installed, or its configuration is invalid.
    """
    scheme, _, path = url.partition("://") if "://" in url else ("file", "", url)
    if not (path if scheme == "file" else path.partition("/")[0]).strip():
        raise UserError(f"{url!r} names no folder, bucket or server; is a variable unset?")
    if scheme == "file":
        return FolderDestination(Path(path).expanduser())
    if scheme in ("http", "https"):
        return WebDestination(url)
    if scheme in ("s3", "s3a", "gs", "az", "azure"):
        return open_bucket(url)
    raise UserError(
        f"{strip_credentials(url)}: unknown kind of store {scheme!r}; write a folder, s3://BUCKET/FOLDER, "
        "gs://BUCKET/FOLDER, az://CONTAINER/FOLDER or https://HOST/FOLDER"
    )


def publish_runs(
    runs: Sequence[Path], destination: Destination, environ: Mapping[str, str], key: Path | None = None
) -> tuple[Transfer, ...]:
    """Publish the runs at these paths, each signed if there is a key, and return what became of each.

    Raises:
        RecordError: a run is damaged.
        UserError: a run may not be published, or the destination has another bundle of it.
        EnvironmentProblem: the destination is out of reach, refuses, or would replace what it has.
    """
    destination.probe()
    published = _group(destination.list_sizes())
    if key is not None:
        # A key that cannot sign shows before anything is sent.
        sign(b"", key)
    planned = []
    for path in runs:
        planned.append(_plan(path, environ, published, destination.url))
        published[planned[-1].run_id].add(planned[-1].sha256)
    send = partial(_send, destination=destination, environ=environ, key=key)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        transfers = tuple(pool.map(send, runs, planned))
    published = _group(destination.list_sizes())
    for transfer in transfers:
        _refuse_twins(transfer.run_id, published[transfer.run_id], destination.url)
    return transfers


def _plan(path: Path, environ: Mapping[str, str], published: Mapping[str, set[str]], url: str) -> Transfer:
    """What is to become of a run; its bytes are made again when they are sent, those of many would not all fit."""
    bundle = export_bundle(path, environ)
    run_id, sha256 = bundle.record.run_id, bundle.sha256
    digests = published.get(run_id, set())
    if others := digests - {sha256}:
        raise UserError(_other_content(run_id, url, min(others), sha256))
    planned = Transfer(run_id, sha256, "already present" if sha256 in digests else "new")
    return replace(planned, place=f"{url}/{planned.object_name}")


def _send(
    path: Path, planned: Transfer, destination: Destination, environ: Mapping[str, str], key: Path | None
) -> Transfer:
    if planned.fate == "already present" and key is None:
        return planned
    bundle = export_bundle(path, environ)
    if bundle.sha256 != planned.sha256:
        raise UserError(f"{path} changed while it was published; run the same command again")
    name = planned.object_name
    if planned.fate == "new":
        # Of several publishers who race with different contents of a run, one creates this.
        claim = f"{planned.run_id}/{ADDRESS_NAME}"
        if not destination.create(claim, f"{planned.sha256}\n".encode()):
            winner = destination.read(claim, _ADDRESS_BYTES_MAX).decode(errors="replace").strip()
            if winner != planned.sha256:
                raise UserError(_other_content(planned.run_id, destination.url, winner, planned.sha256))
    # First, so that a bundle that is listed already has it.
    is_signed_now = destination.create(name + SIGNATURE_ENDING, sign(bundle.archive, key)) if key is not None else None
    is_new = planned.fate == "new" and destination.create(name, bundle.archive)
    return replace(planned, fate="new" if is_new else "already present", is_signed_now=is_signed_now)


def _other_content(run_id: str, url: str, published: str, local: str) -> str:
    return (
        f"{run_id}: {url} has this run with other content ({published[:16]}..., here {local[:16]}...); "
        "nothing is replaced: publish it elsewhere, or ask who published that one"
    )


def pull_runs(
    source: Destination,
    out: Path,
    wanted: Callable[[PublishedBundle], bool],
    signers: Path | None = None,
    *,
    signed_only: bool = False,
) -> Iterator[Transfer]:
    """Yield what became of each run at a source, pulled into a folder of its own under ``out`` if it is wanted.

    A bundle is refused, and the others are pulled, if it is damaged, lost, misnamed, not signed as required, or of a
    run that ``out`` has with other content.

    Raises:
        UserError: there is no published run.
        EnvironmentProblem: the source is out of reach.
    """
    sizes_bytes = source.list_sizes()
    published = _group(sizes_bytes)
    if not published:
        raise UserError(f"{source.url} has no published run; name the destination that sdbench publish was given")
    missing: dict[str, Transfer] = {}
    for run_id, digests in sorted(published.items()):
        transfer = Transfer(run_id, min(digests), "new", str(out / run_id))
        try:
            _refuse_twins(run_id, digests, source.url)
            # With a signature to check, the bundle is read although the run was pulled before.
            if signers is None and not signed_only and _is_present(out, transfer):
                yield replace(transfer, fate="already present")
            else:
                missing[transfer.object_name] = transfer
        except UserError as problem:
            yield replace(transfer, fate="refused", place="", problem=problem)

    def keep(transfer: Transfer, content: bytes) -> Transfer:
        bundle = _read_named(content, transfer.object_name, source.url)
        signature = _read_signature(source, transfer.object_name, sizes_bytes, required=signed_only)
        if signature is not None and signers is not None:
            check_signature(content, signature, signers, transfer.object_name)
        if _is_present(out, transfer, bundle):
            return replace(transfer, fate="already present")
        if not wanted(bundle):
            return replace(transfer, fate="filtered out", place="")
        _unpack(bundle, out / transfer.run_id, signature)
        return transfer

    for name, content in read_all(source, sizes_bytes, tuple(missing), ARCHIVE_BYTES_MAX):
        try:
            if isinstance(content, RecordError):
                raise content
            yield keep(missing[name], content)
        except UserError as problem:
            yield replace(missing[name], fate="refused", place="", problem=problem)


def _read_named(content: bytes, name: str, url: str) -> PublishedBundle:
    """Return the bundle in an object's bytes, refusing one that is not what its name says."""
    bundle = read_bundle(content, f"{url}/{name}")
    if f"{bundle.record.run_id}/{bundle.sha256}{ARCHIVE_ENDING}" != name:
        raise RecordError(
            f"{url}: {name} is run {bundle.record.run_id[:100]!r} with SHA-256 {bundle.sha256[:16]}...: "
            "the name and the content do not agree; do not trust it"
        )
    return bundle


def _read_signature(source: Destination, name: str, listed: Container[str], *, required: bool) -> bytes | None:
    if (signed := name + SIGNATURE_ENDING) in listed:
        return source.read(signed, SIGNATURE_BYTES_MAX)
    if required:
        raise RecordError(f"{source.url}: {name} is not signed; ask its publisher to sign it")
    return None


def _unpack(bundle: PublishedBundle, folder: Path, signature: bytes | None) -> None:
    if folder.exists():
        raise UserError(f"{folder} already exists with other content; move it away, or pull into another folder")
    signed = {} if signature is None else {SIGNATURE_NAME: signature}
    write_whole_folder(folder, {**bundle.files, **signed, ADDRESS_NAME: f"{bundle.sha256}\n".encode()})


def _group(names: Iterable[str]) -> defaultdict[str, set[str]]:
    """Return the SHA-256 of each run's bundles by its id; what is not a bundle is ignored."""
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for match in filter(None, map(_OBJECT.fullmatch, names)):
        digests[match["run_id"]].add(match["sha256"])
    return digests


def _refuse_twins(run_id: str, digests: set[str], url: str) -> None:
    if len(digests) > 1:
        shown = ", ".join(digest[:16] for digest in sorted(digests))
        raise UserError(
            f"{url}: run {run_id} has two contents ({shown}); neither is taken: ask who published it which one is right"
        )


def _is_present(out: Path, transfer: Transfer, bundle: PublishedBundle | None = None) -> bool:
    """Whether the run was pulled before, or was measured here, which only its bundle shows; refuse other content."""
    folder = out / transfer.run_id
    other_content = f"has this run with other content than {transfer.sha256[:16]}...; nothing is replaced: move it away"
    if (folder / ADDRESS_NAME).is_file():
        if not _is_complete(folder):
            raise UserError(f"{folder} was pulled before and is incomplete now; remove it and pull again")
        if read_address(folder) != transfer.sha256:
            raise UserError(f"{folder} {other_content}")
        return True
    # A run that was measured here is in a folder without the digits that end its id.
    origin = out / transfer.run_id.rpartition("-")[0]
    if bundle is None or not (origin / RECORD_NAME).is_file():
        return False
    record = load_record(origin)
    if record.run_id != transfer.run_id:
        return False
    if not bundle.is_of(record):
        raise UserError(f"{origin} {other_content}")
    return True


def read_address(folder: Path) -> str:
    """Return the SHA-256 of the bundle as which a run's folder was pulled.

    Raises:
        RecordError: the file is not a regular file, or too large.
    """
    return read_file(folder / ADDRESS_NAME, _ADDRESS_BYTES_MAX).decode(errors="replace").strip()


def _is_complete(folder: Path) -> bool:
    """Whether the record and the files that it names exist in their sizes; their content is for ``verify``."""
    try:
        named = msgspec.json.decode(read_file(folder / RECORD_NAME, RECORD_BYTES_MAX))["files"]
        return all((folder / file["path"]).stat().st_size == file["size_bytes"] for file in named)
    except (OSError, ValueError, LookupError, TypeError, RecordError):
        return False
