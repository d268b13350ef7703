"""Verify a run: a folder, an archive, or one at a URL."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sdbench.errors import RecordError, UserError
from sdbench.privacy import strip_credentials
from sdbench.probes.software import read_own_commit
from sdbench.publish.archive import ARCHIVE_BYTES_MAX, ARCHIVE_ENDING, PublishedBundle, pack, read_bundle
from sdbench.publish.destination import FolderDestination
from sdbench.publish.signature import SIGNATURE_BYTES_MAX, SIGNATURE_ENDING, UnknownSigner, check_signature
from sdbench.publish.transfer import ADDRESS_NAME, SIGNATURE_NAME, open_destination, read_address
from sdbench.schema.base import Known, Unknown, canonical_json
from sdbench.schema.record import Record
from sdbench.store.bundle import read_files
from sdbench.store.journal import read_journal
from sdbench.store.layout import JOURNAL_NAME, MANIFEST_NAME, RECORD_NAME
from sdbench.store.run import load_run
from sdbench.verification.consistency import CHECKS, check_manifest, check_pictures, check_verdicts, named_launches

_SHOWN = 3
# Why nothing proves the measurement itself, by the record's origin.
_ORIGINS = {
    "measured": "that these times were measured: a complete record can be invented. Repeat the run: "
    "sdbench run {manifest}",
    "imported": "the results are as their source published them; there are no samples to check",
    "virtual": "these are simulated results of the virtual backend",
}


Verdict = Literal["proven", "not proven", "contradicted"]


class VerificationCheck(NamedTuple):
    """What is proven, or why it is not, or what contradicts it."""

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Verification:
    """All checks of one run by name; ``sha256`` is that of its bundle where it is one, else None."""

    name: str
    record: Record
    sha256: str | None
    record_sha256: str
    checks: Mapping[str, VerificationCheck]

    @property
    def is_valid(self) -> bool:
        """Whether nothing contradicts the run."""
        return all(check.verdict != "contradicted" for check in self.checks.values())

    def to_json_dict(self) -> dict[str, Any]:
        """Return the checks as JSON types, with the run's id and seal and not its whole record."""
        return {
            "name": self.name,
            "run_id": self.record.run_id,
            "seal": self.record.seal,
            "sha256": self.sha256,
            "is_valid": self.is_valid,
            "checks": [{"name": name, **check._asdict()} for name, check in self.checks.items()],
        }


@dataclass(frozen=True)
class _Subject:
    """A run as it was read, its files by name, its bundle and signature where it was published."""

    record: Record
    files: Mapping[str, bytes]
    how: str
    bundle: PublishedBundle | None = None
    signature: bytes | None = None
    journal: Path | None = None


def verify(
    place: str, signers: Path | None = None, *, signed_only: bool = False, image_digest: str | None = None
) -> Verification:
    """Return what is proven of the run at a path or URL, what is not, and what contradicts it.

    The run must be signed by one of ``signers`` if ``signed_only``, and have run in the image if a digest is given.

    Raises:
        RecordError: it is damaged so that it cannot be read: the first thing that is wrong.
        UserError: no such file.
        EnvironmentProblem: the store is out of reach.
    """
    subject = _read(place)
    record = subject.record
    checks = {"content": VerificationCheck("proven", subject.how)}
    for name, (text, check, why_not) in CHECKS.items():
        reason = why_not(record)
        checks[name] = _unproven(reason) if reason else _judge(text, list(check(record)))
    checks |= {"verdicts": _verdicts(record), "manifest": _manifest(subject), "images": _images(subject)}
    if subject.journal is not None and subject.journal.is_file():
        checks["journal"] = _journal(record, subject.journal)
    checks["image"] = _image(record, image_digest)
    checks["signature"] = _signature(place, subject, signers, signed_only=signed_only)
    checks["measurement"] = _unproven(_ORIGINS[record.origin].format(manifest=record.request.manifest_name))
    record_sha256 = hashlib.sha256(subject.files[RECORD_NAME]).hexdigest()
    sha256 = subject.bundle.sha256 if subject.bundle else None
    return Verification(place, record, sha256, record_sha256, checks)


def _read(place: str) -> _Subject:
    path = Path(place)
    if "://" not in place and (path.is_dir() or path.suffix != ARCHIVE_ENDING):
        return _read_folder(path)
    if "://" in place:
        folder, _, name = place.rpartition("/")
        if not name or "://" not in folder:
            raise UserError(f"{strip_credentials(place)}: not the URL of a bundle; add its name, RUN/SHA256.zip")
        source = open_destination(folder)
    else:
        source, name = FolderDestination(path.parent), path.name
    content = source.read(name, ARCHIVE_BYTES_MAX)
    # By its name: a web server may have no list of its files.
    signature = source.find(name + SIGNATURE_ENDING, SIGNATURE_BYTES_MAX)
    bundle = read_bundle(content, place)
    stem = name.removesuffix(ARCHIVE_ENDING)
    if len(stem) == len(bundle.sha256) and stem != bundle.sha256:
        raise RecordError(f"{place}: has SHA-256 {bundle.sha256[:16]}..., not that of its name; get it again")
    how = (
        f"SHA-256 {bundle.sha256}: every byte belongs to one of {len(bundle.files)} files, each as the record names "
        f"it; schema {bundle.record.schema_}; sealed"
    )
    return _Subject(bundle.record, bundle.files, how, bundle, signature)


def _read_folder(path: Path) -> _Subject:
    run = load_run(path)
    _ = run.telemetry
    folder, record, files = run.folder, run.record, read_files(path, run.record)
    how = f"{len(record.files)} files next to the record match their hashes; schema {record.schema_}; sealed"
    journal = folder / JOURNAL_NAME
    if not (folder / ADDRESS_NAME).is_file():
        return _Subject(record, files, how, journal=journal)
    bundle = read_bundle(pack(files), str(path))
    if read_address(folder) != bundle.sha256:
        raise RecordError(f"{folder}: was pulled as another bundle than it is now; pull it again")
    signature = FolderDestination(folder).find(SIGNATURE_NAME, SIGNATURE_BYTES_MAX)
    return _Subject(record, files, f"{how}; the bundle {bundle.sha256}", bundle, signature, journal)


def _unproven(reason: str) -> VerificationCheck:
    return VerificationCheck("not proven", reason)


def _judge(text: str, contradictions: list[str]) -> VerificationCheck:
    if not contradictions:
        return VerificationCheck("proven", text)
    more = f"; and {len(contradictions) - _SHOWN} more" if len(contradictions) > _SHOWN else ""
    return VerificationCheck("contradicted", "; ".join(contradictions[:_SHOWN]) + more)


def _verdicts(record: Record) -> VerificationCheck:
    if not any(result.quality_checks for result in record.results):
        return _unproven("the record holds no quality checks")
    wrong = list(check_verdicts(record))
    check = _judge("the quality checks follow from the samples", wrong)
    commit, _ = read_own_commit(os.environ)
    if wrong and (isinstance(commit, Unknown) or commit != record.fingerprint.software.sdbench_commit):
        # The checks' thresholds may have been others then.
        return _unproven(f"{check.text} (by this version of sdbench; another made the record)")
    return check


def _manifest(subject: _Subject) -> VerificationCheck:
    text = "every experiment that the manifest requests has a result, and no other has"
    if subject.record.session is not None:
        # An arm's own settings are readings of what was requested, not all of it.
        text = "the manifest next to the record is the record's; what an arm of a session left out is not checked"
    if MANIFEST_NAME not in subject.files:
        return _unproven("there is no manifest next to the record")
    try:
        wrong = list(check_manifest(subject.record, subject.files[MANIFEST_NAME].decode(), MANIFEST_NAME))
    except (UserError, UnicodeDecodeError) as error:
        return _unproven(f"cannot be read here: {error}")
    return _judge(text, wrong)


def _images(subject: _Subject) -> VerificationCheck:
    try:
        count, wrong = check_pictures(subject.record, subject.files)
    except ImportError:
        return _unproven("Pillow is not installed, the content was not checked; install sdbench[report]")
    if not count and not wrong:
        return _unproven("the record names no picture")
    return _judge(f"{count} pictures: their hashes are those in the record", wrong)


def _journal(record: Record, path: Path) -> VerificationCheck:
    """Compare the record's launches with those that were journaled while they ran; published runs have no journal."""
    entries, _ = read_journal(path)
    launches = (entry for entry in entries if entry["kind"] == "launch")
    journaled = {(entry["experiment_id"], entry["launch"]["index"]): entry["launch"] for entry in launches}
    count, wrong = len(journaled), []
    for name, result, launch in named_launches(record):
        written = journaled.pop((result.planned.experiment_id, launch.index), {})
        recorded = launch.to_json_dict()
        # A journal of an earlier version does not have the fields of later ones.
        if not written or canonical_json(written) != canonical_json({key: recorded.get(key) for key in written}):
            wrong.append(f"{name} is not what was journaled")
    # Leaving out what does not suit is the easiest way to better results.
    wrong += [f"{experiment_id}, launch {index} was journaled and left out" for experiment_id, index in journaled]
    return _judge(f"the {count} launches are those that were journaled while they ran, and no more", wrong)


def _image(record: Record, required: str | None) -> VerificationCheck:
    digest = record.fingerprint.software.image_digest
    value = digest.value if isinstance(digest, Known) else None
    named = f"the record names {value}" if isinstance(digest, Known) else f"the record names no image ({digest.reason})"
    if required is None:
        rest = "; that it ran in it rests on who made the record. --image DIGEST compares it"
        return _unproven(named + rest if value else named)
    if value == required:
        return VerificationCheck("proven", f"{named}, the required image")
    return VerificationCheck("contradicted", f"{named}, not the image {required}")


def _signature(place: str, subject: _Subject, signers: Path | None, *, signed_only: bool) -> VerificationCheck:
    unproven: Verdict = "contradicted" if signed_only else "not proven"
    if subject.signature is None or subject.bundle is None:
        text = "the seal reveals accidental changes, but anyone who edits a record can seal it again"
        return VerificationCheck(unproven, f"not signed: {text}")
    if signers is None:
        text = "signed, but the signer was not checked: --signers FILE names whom you trust"
        return VerificationCheck(unproven, text)
    try:
        principal, key = check_signature(subject.bundle.archive, subject.signature, signers, place)
    except UnknownSigner as error:
        return VerificationCheck(unproven, str(error))
    except RecordError as error:
        return VerificationCheck("contradicted", str(error))
    return VerificationCheck("proven", f"{principal} signed exactly these bytes with key {key}")
