"""Verify a run: a folder, an archive, or one at a URL."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sdbench.errors import RecordError, UserError
from sdbench.probes.software import read_own_commit
from sdbench.schema.base import Known, Unknown, canonical_json
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Record
from sdbench.store.archive import ARCHIVE_BYTES_MAX, ARCHIVE_ENDING, pack, read_bundle
from sdbench.store.bundle import encode_json, load_record, record_path, verify_files
from sdbench.store.destination import open_destination
from sdbench.store.journal import read_journal
from sdbench.store.names import JOURNAL_NAME, MANIFEST_NAME, RECORD_NAME
from sdbench.store.publishing import ADDRESS_NAME, SIGNATURE_NAME
from sdbench.store.signature import SIGNATURE_BYTES_MAX, SIGNATURE_ENDING, UnknownSigner, check_signature
from sdbench.units import format_bytes
from sdbench.verification.consistency import CHECKS, ConsistencyCheck, check_manifest, check_verdicts
from sdbench.verification.findings import Finding, Verdict, Verification
from sdbench.verification.pictures import check_pictures

_SHOWN = 3


@dataclass(frozen=True)
class Policy:
    """What is asked of a run beside that nothing contradicts it: who may have signed it, and which image it ran in."""

    signers: Path | None = None
    signed_only: bool = False
    image_digest: str | None = None


@dataclass(frozen=True)
class _Subject:
    """A run as it was read, its files by name, and its archive where it was or would be one."""

    name: str
    record: Record
    files: Mapping[str, bytes]
    archive: bytes | None
    sha256: str | None
    signature: bytes | None
    journal: Path | None
    how: str


def verify(place: str, policy: Policy = Policy()) -> Verification:
    """Return what is proven of the run at a path or URL, what is not, and what contradicts it.

    Raises:
        RecordError: it is damaged so that it cannot be read: the first thing that is wrong.
        UserError: no such file.
        EnvironmentProblem: the store is out of reach.
    """
    subject = _read(place)
    findings = [Finding(name="content", verdict="proven", text=subject.how)]
    findings += [_check(subject.record, name, check) for name, check in CHECKS.items()]
    findings += [_verdicts(subject.record), _manifest(subject), _pictures(subject)]
    findings += _journal(subject)
    findings += [_image(subject.record, policy), _signature(subject, policy), _origin(subject.record)]
    return Verification(
        name=place,
        record=subject.record,
        sha256=subject.sha256,
        record_sha256=hashlib.sha256(subject.files[RECORD_NAME]).hexdigest(),
        findings=tuple(findings),
    )


def _read(place: str) -> _Subject:
    path = Path(place)
    if "://" not in place and (path.is_dir() or path.suffix != ARCHIVE_ENDING):
        return _read_folder(path)
    if "://" in place:
        folder, _, name = place.rpartition("/")
        source = open_destination(folder)
        content = source.read(name, ARCHIVE_BYTES_MAX)
        # Asked for by its name: a web server may have no list of what it has.
        signature = source.find(name + SIGNATURE_ENDING, SIGNATURE_BYTES_MAX)
    else:
        try:
            if path.stat().st_size > ARCHIVE_BYTES_MAX:
                raise RecordError(
                    f"{path}: over {format_bytes(ARCHIVE_BYTES_MAX)}, too large for a run; do not trust it"
                )
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None
        beside = path.with_name(path.name + SIGNATURE_ENDING)
        signature = beside.read_bytes() if beside.is_file() else None
    bundle = read_bundle(content, place)
    stem = place.rpartition("/")[2].removesuffix(ARCHIVE_ENDING)
    if len(stem) == len(bundle.sha256) and stem != bundle.sha256:
        raise RecordError(
            f"{place}: its SHA-256 is {bundle.sha256[:16]}..., not that of its name: it was changed; get it again"
        )
    how = (
        f"SHA-256 {bundle.sha256}: every byte belongs to one of {len(bundle.files)} files, each as the record names "
        f"it; schema {bundle.record.schema_}; sealed"
    )
    return _Subject(place, bundle.record, bundle.files, content, bundle.sha256, signature, None, how)


def _read_folder(path: Path) -> _Subject:
    record = load_record(path)
    folder = record_path(path).parent
    verify_files(folder, record)
    files = {file.path: (folder / file.path).read_bytes() for file in record.files}
    files[RECORD_NAME] = record_path(path).read_bytes()
    if encode_json(json.loads(files[RECORD_NAME])) != files[RECORD_NAME]:
        raise RecordError(f"{record_path(path)}: was written again since it was sealed; restore it from a copy")
    archive = sha256 = signature = None
    how = f"{len(record.files)} files beside the record, each as it names them; schema {record.schema_}; sealed"
    address = folder / ADDRESS_NAME
    if address.is_file():
        archive = pack(files)
        sha256 = read_bundle(archive, str(path)).sha256
        if address.read_text(encoding="utf-8", errors="replace").strip() != sha256:
            raise RecordError(f"{folder}: was pulled as another bundle than it is now; pull it again")
        signature = (folder / SIGNATURE_NAME).read_bytes() if (folder / SIGNATURE_NAME).is_file() else None
        how += f"; the bundle {sha256}"
    journal = folder / JOURNAL_NAME
    return _Subject(str(path), record, files, archive, sha256, signature, journal if journal.is_file() else None, how)


def _check(record: Record, name: str, check: ConsistencyCheck) -> Finding:
    if (reason := check.why_not(record)) is not None:
        return Finding(name=name, verdict="not proven", text=reason)
    return _run(name, check.text, list(check.check(record)))


def _run(name: str, text: str, contradictions: list[str]) -> Finding:
    if not contradictions:
        return Finding(name=name, verdict="proven", text=text)
    more = f"; and {len(contradictions) - _SHOWN} more" if len(contradictions) > _SHOWN else ""
    return Finding(name=name, verdict="contradicted", text="; ".join(contradictions[:_SHOWN]) + more)


def _verdicts(record: Record) -> Finding:
    if not any(result.trust for result in record.results):
        return Finding(name="verdicts", verdict="not proven", text="the record holds no trust checks")
    wrong = list(check_verdicts(record))
    finding = _run("verdicts", "the trust checks follow from the samples", wrong)
    commit, _ = read_own_commit(os.environ)
    if wrong and (isinstance(commit, Unknown) or commit != record.fingerprint.software.sdbench_commit):
        # The checks' thresholds may have been others then.
        text = f"{finding.text} (by this version of sdbench; another made the record)"
        return Finding(name="verdicts", verdict="not proven", text=text)
    return finding


def _manifest(subject: _Subject) -> Finding:
    text = "every experiment that the manifest asks for has a result, and no other"
    if subject.record.session is not None:
        # A side's own settings are readings of what was asked, not all of it.
        text = "the manifest beside the record is the record's; what a side of a session left out is not looked at"
    if MANIFEST_NAME not in subject.files:
        return Finding(name="manifest", verdict="not proven", text="there is no manifest beside the record")
    try:
        wrong = list(check_manifest(subject.record, subject.files[MANIFEST_NAME].decode(), MANIFEST_NAME))
    except (UserError, UnicodeDecodeError) as error:
        return Finding(name="manifest", verdict="not proven", text=f"cannot be read here: {error}")
    return _run("manifest", text, wrong)


def _pictures(subject: _Subject) -> Finding:
    try:
        count, wrong = check_pictures(subject.record, subject.files)
    except ImportError:
        text = "Pillow is not installed: the files are there, their content was not looked at; install sdbench[report]"
        return Finding(name="images", verdict="not proven", text=text)
    if not count and not wrong:
        return Finding(name="images", verdict="not proven", text="the record names no picture")
    return _run("images", f"{count} pictures are there and are the images whose hashes the record holds", wrong)


def _journal(subject: _Subject) -> list[Finding]:
    """Hold the record's launches against those that were journaled while they ran; published runs have no journal."""
    if subject.journal is None:
        return []
    entries, _ = read_journal(subject.journal)
    journaled = {
        (entry["experiment_id"], entry["launch"]["index"]): entry["launch"]
        for entry in entries
        if entry["kind"] == "launch"
    }
    wrong = []
    count = 0
    for result in subject.record.results:
        for launch in launches_of(result.outcome):
            key = result.planned.experiment_id, launch.index
            written, found = journaled.pop(key, {}), launch.to_json_dict()
            count += 1
            # A journal of an earlier version lacks what later ones know.
            if not written or canonical_json(written) != canonical_json({name: found.get(name) for name in written}):
                wrong.append(f"{result.planned.label}, launch {launch.index} is not what was journaled")
    # Leaving out what does not suit is the easiest way to better figures.
    wrong += [f"{experiment_id}, launch {index} was journaled and left out" for experiment_id, index in journaled]
    return [_run("journal", f"the {count} launches are those that were journaled while they ran, and no more", wrong)]


def _image(record: Record, policy: Policy) -> Finding:
    digest = record.fingerprint.software.image_digest
    named = f"the record names {digest.value}" if isinstance(digest, Known) else f"no image is named ({digest.reason})"
    if policy.image_digest is None:
        rest = "; that it ran in it rests on who made the record. --image DIGEST compares it"
        return Finding(name="image", verdict="not proven", text=named + (rest if isinstance(digest, Known) else ""))
    if isinstance(digest, Known) and digest.value == policy.image_digest:
        return Finding(name="image", verdict="proven", text=f"{named}, the image asked for")
    return Finding(name="image", verdict="contradicted", text=f"{named}, not the image {policy.image_digest}")


def _signature(subject: _Subject, policy: Policy) -> Finding:
    if subject.signature is None or subject.archive is None:
        text = (
            "not signed: the seal shows a change in passing, but whoever changes a record on purpose can seal it anew"
        )
        return Finding(name="signature", verdict="contradicted" if policy.signed_only else "not proven", text=text)
    if len(subject.signature) > SIGNATURE_BYTES_MAX:
        return Finding(name="signature", verdict="contradicted", text="too large for a signature")
    if policy.signers is None:
        verdict: Verdict = "contradicted" if policy.signed_only else "not proven"
        text = "signed, but by whom was not asked: --signers FILE names whom you trust"
        return Finding(name="signature", verdict=verdict, text=text)
    try:
        signed = check_signature(subject.archive, subject.signature, policy.signers, subject.name)
    except UnknownSigner as error:
        unknown: Verdict = "contradicted" if policy.signed_only else "not proven"
        return Finding(name="signature", verdict=unknown, text=str(error))
    except RecordError as error:
        return Finding(name="signature", verdict="contradicted", text=str(error))
    text = f"{signed.principal} signed exactly these bytes with key {signed.key}"
    return Finding(name="signature", verdict="proven", text=text)


def _origin(record: Record) -> Finding:
    texts = {
        "measured": "that a machine took these times: a record can be made up whole, by one who takes care. Repeat it: "
        f"sdbench run {record.request.manifest_name}",
        "imported": "the figures are as somebody else published them; there are no samples to look at",
        "virtual": "the figures are of no machine: the virtual backend made them",
    }
    return Finding(name="measurement", verdict="not proven", text=texts[record.origin])
