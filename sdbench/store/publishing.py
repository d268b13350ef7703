"""Publish runs to a destination, and pull them from one.

An object is called ``<run id>/<SHA-256>.zip``, its signature ``<run id>/<SHA-256>.zip.sig``. Before it comes
``<run id>/bundle.sha256``, which one publisher can create: it names the one content that the run has here. Nothing is
ever replaced.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from sdbench.errors import RecordError, UserError
from sdbench.store.archive import ARCHIVE_BYTES_MAX, ARCHIVE_ENDING, PublishedBundle, read_bundle
from sdbench.store.bundle import load_record
from sdbench.store.destination import REQUESTS_AT_ONCE, Destination, read_all
from sdbench.store.exporting import export_bundle
from sdbench.store.files import write_whole_folder
from sdbench.store.names import RECORD_NAME
from sdbench.store.signature import SIGNATURE_BYTES_MAX, SIGNATURE_ENDING, check_signature, sign

SIGNATURE_NAME = "bundle.zip.sig"
ADDRESS_NAME = "bundle.sha256"
_ADDRESS_BYTES_MAX = 1024
_OBJECT = re.compile(r"(?P<run_id>[A-Za-z0-9][A-Za-z0-9._-]{0,199})/(?P<sha256>[0-9a-f]{64})\.zip")

Fate = Literal["new", "already there", "filtered out", "refused"]


@dataclass(frozen=True)
class Transfer:
    """What became of one run: its id, the SHA-256 of its bundle, where it is now, and why it was refused.

    ``is_signed_now`` is None where no signature was asked for, and False where one was there, which is kept.
    """

    run_id: str
    sha256: str
    fate: Fate
    place: str
    problem: UserError | None = None
    is_signed_now: bool | None = None


def publish_runs(
    runs: Sequence[Path], destination: Destination, environ: Mapping[str, str], key: Path | None = None
) -> tuple[Transfer, ...]:
    """Publish the runs at these paths, each signed if there is a key, and return what became of each.

    Raises:
        RecordError: a run is damaged.
        UserError: a run may not leave, or another bundle of it is there already.
        EnvironmentProblem: the destination is out of reach, refuses, or would replace what is there.
    """
    there = _objects(destination)
    destination.probe()
    if key is not None:
        # A key that cannot sign shows before anything is sent.
        sign(b"", key)
    planned = []
    for path in runs:
        planned.append(_plan(path, environ, there, destination.url))
        there[planned[-1].run_id].add(planned[-1].sha256)
    send = partial(_send, destination=destination, environ=environ, key=key)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        transfers = tuple(pool.map(send, runs, planned))
    _refuse_twins(_objects(destination), {transfer.run_id for transfer in transfers}, destination.url)
    return transfers


def _plan(path: Path, environ: Mapping[str, str], there: Mapping[str, set[str]], url: str) -> Transfer:
    """What is to become of a run; its bytes are made again when its turn comes, those of many would not all fit."""
    bundle, _ = export_bundle(path, environ)
    run_id, sha256 = bundle.record.run_id, bundle.sha256
    digests = there.get(run_id, set())
    if others := digests - {sha256}:
        raise UserError(_other_content(run_id, url, min(others), sha256))
    fate: Fate = "already there" if sha256 in digests else "new"
    return Transfer(run_id, sha256, fate, f"{url.rstrip('/')}/{run_id}/{sha256}{ARCHIVE_ENDING}")


def _send(
    path: Path, planned: Transfer, destination: Destination, environ: Mapping[str, str], key: Path | None
) -> Transfer:
    if planned.fate == "already there" and key is None:
        return planned
    bundle, content = export_bundle(path, environ)
    if bundle.sha256 != planned.sha256:
        raise UserError(f"{path} changed while it was published; run the same command again")
    name = f"{planned.run_id}/{planned.sha256}{ARCHIVE_ENDING}"
    if planned.fate == "new":
        _claim(destination, planned.run_id, planned.sha256)
    # First, so that nobody finds the bundle without it.
    is_signed_now = destination.create(name + SIGNATURE_ENDING, sign(content, key)) if key is not None else None
    is_new = planned.fate == "new" and destination.create(name, content)
    return replace(planned, fate="new" if is_new else "already there", is_signed_now=is_signed_now)


def _claim(destination: Destination, run_id: str, sha256: str) -> None:
    """Make this the one content of a run: of several publishers who race with different ones, one wins."""
    name = f"{run_id}/{ADDRESS_NAME}"
    if destination.create(name, f"{sha256}\n".encode()):
        return
    winner = destination.read(name, _ADDRESS_BYTES_MAX).decode(errors="replace").strip()
    if winner != sha256:
        raise UserError(_other_content(run_id, destination.url, winner, sha256))


def _other_content(run_id: str, url: str, there: str, here: str) -> str:
    return (
        f"{run_id}: {url} has this run with other content ({there[:16]}..., here {here[:16]}...); "
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

    A bundle that is damaged, not what its name says, not signed as asked, or of a run that is here with other content
    is refused; the others are pulled.

    Raises:
        UserError: there is no published run.
        EnvironmentProblem: the source is out of reach.
    """
    names = source.list_names()
    objects = _group(names)
    if not objects:
        raise UserError(
            f"{source.url}: no published run is there; name what sdbench publish was given as its destination"
        )
    missing: list[str] = []
    for run_id, digests in sorted(objects.items()):
        try:
            _refuse_twins(objects, {run_id}, source.url)
            (sha256,) = digests
            # Whose signature is asked for, of that the bundle is looked at, though the run is here.
            if signers is None and not signed_only and _is_here(out, run_id, sha256):
                yield Transfer(run_id, sha256, "already there", str(out / run_id))
            else:
                missing.append(f"{run_id}/{sha256}{ARCHIVE_ENDING}")
        except UserError as problem:
            yield Transfer(run_id, min(digests), "refused", "", problem)
    signatures = {name for name in names if name.endswith(SIGNATURE_ENDING)}

    def check(name: str, content: bytes) -> tuple[PublishedBundle, bytes | None]:
        bundle = _read_named(content, name, source.url)
        signed = name + SIGNATURE_ENDING
        signature = source.read(signed, SIGNATURE_BYTES_MAX) if signed in signatures else None
        if signature is None and signed_only:
            raise RecordError(f"{source.url}: {name} is not signed; ask its publisher to sign it")
        if signature is not None and signers is not None:
            check_signature(content, signature, signers, name)
        return bundle, signature

    for name, content in read_all(source, missing, ARCHIVE_BYTES_MAX):
        run_id, _, file = name.partition("/")
        sha256 = file.removesuffix(ARCHIVE_ENDING)
        try:
            if isinstance(content, RecordError):
                raise content
            yield _keep(*check(name, content), out, wanted)
        except UserError as problem:
            yield Transfer(run_id, sha256, "refused", "", problem)


def _keep(
    bundle: PublishedBundle, signature: bytes | None, out: Path, wanted: Callable[[PublishedBundle], bool]
) -> Transfer:
    """Write a bundle's run if it is wanted and not here."""
    run_id, sha256 = bundle.record.run_id, bundle.sha256
    if _is_here(out, run_id, sha256, bundle):
        return Transfer(run_id, sha256, "already there", str(out / run_id))
    if not wanted(bundle):
        return Transfer(run_id, sha256, "filtered out", "")
    unpack_bundle(bundle, out, signature)
    return Transfer(run_id, sha256, "new", str(out / run_id))


def _read_named(content: bytes, name: str, url: str) -> PublishedBundle:
    """Return the bundle in an object's bytes after holding it against the object's name.

    Raises:
        RecordError: it is damaged, or not what its name says.
    """
    bundle = read_bundle(content, f"{url.rstrip('/')}/{name}")
    if f"{bundle.record.run_id}/{bundle.sha256}{ARCHIVE_ENDING}" != name:
        raise RecordError(
            f"{url}: {name} is run {bundle.record.run_id[:100]!r} with SHA-256 {bundle.sha256[:16]}...: "
            "the name and the content do not agree; do not trust it"
        )
    return bundle


def unpack_bundle(bundle: PublishedBundle, out: Path, signature: bytes | None = None) -> Path:
    """Write a bundle as a run's folder that appears whole or not at all, and return it.

    Raises:
        UserError: a folder of this name is there already.
        EnvironmentProblem: the folder is not writable or the disk is full.
    """
    folder = out / bundle.record.run_id
    if folder.exists():
        raise UserError(f"{folder} is there already, with other content; move it away, or pull into another folder")
    files = dict(bundle.files) | {ADDRESS_NAME: f"{bundle.sha256}\n".encode()}
    if signature is not None:
        files[SIGNATURE_NAME] = signature
    write_whole_folder(folder, files)
    return folder


def _objects(destination: Destination) -> defaultdict[str, set[str]]:
    return _group(destination.list_names())


def _group(names: Sequence[str]) -> defaultdict[str, set[str]]:
    """Return the SHA-256 of each run's bundles by its id; what is no bundle is left alone."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        if match := _OBJECT.fullmatch(name):
            found[match["run_id"]].add(match["sha256"])
    return found


def _refuse_twins(objects: Mapping[str, set[str]], run_ids: set[str], url: str) -> None:
    for run_id in sorted(run_ids):
        if len(objects.get(run_id, ())) > 1:
            digests = ", ".join(digest[:16] for digest in sorted(objects[run_id]))
            raise UserError(
                f"{url}: run {run_id} is there with two contents ({digests}); neither is taken: ask who published it "
                "which one is right"
            )


def _is_here(out: Path, run_id: str, sha256: str, bundle: PublishedBundle | None = None) -> bool:
    """Return whether the run was pulled before, or was measured here; of the latter the bundle tells for sure.

    Raises:
        UserError: a run of this id but other content is here.
    """
    folder = out / run_id
    if (folder / ADDRESS_NAME).is_file():
        if not _is_whole(folder):
            raise UserError(f"{folder} was pulled before and is not whole any more; remove it and pull again")
        if (folder / ADDRESS_NAME).read_text(encoding="utf-8", errors="replace").strip() == sha256:
            return True
        raise UserError(_other_here(folder, sha256))
    # A run that was measured here lies in a folder without the digits that end its id.
    origin = out / run_id.rpartition("-")[0]
    if bundle is None or not (origin / RECORD_NAME).is_file():
        return False
    record = load_record(origin)
    if record.run_id != run_id:
        return False
    if bundle.record.exported is None or bundle.record.exported.source_seal != record.seal:
        raise UserError(_other_here(origin, sha256))
    return True


class _Named(msgspec.Struct):
    path: str
    size_bytes: int


class _Files(msgspec.Struct):
    files: list[_Named]


def _is_whole(folder: Path) -> bool:
    """Whether the record and the files that it names are there in their sizes; what they hold ``verify`` tells."""
    try:
        named = msgspec.json.decode((folder / RECORD_NAME).read_bytes(), type=_Files).files
        return all((folder / file.path).stat().st_size == file.size_bytes for file in named)
    except (OSError, ValueError):
        return False


def _other_here(folder: Path, sha256: str) -> str:
    return f"{folder} has this run with other content than {sha256[:16]}...; nothing is replaced: move it away"
