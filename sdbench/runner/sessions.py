"""The two run folders of an unfinished session of ``ab``, found again by the same request."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbench.probes.virtual import VARIABLE
from sdbench.runner.folder import may_continue, read_start, resume_key
from sdbench.runner.spec import RunSpec
from sdbench.schema.base import sha256_of
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.record import Session
from sdbench.store.layout import JOURNAL_NAME


def continue_session(
    specs: Sequence[RunSpec], fingerprints: Sequence[Fingerprint], margin: float, *, own_seed: bool
) -> list[RunSpec]:
    """Return the specs of both arms with the session and the folders that they continue, or as a new session.

    The newest session is continued that has the same request but for its budget, the same arms and margin on the same
    machine, and that was interrupted or ended by its budget; with ``own_seed`` only one of the same seed.
    """
    arms = [resume_key(*both) for both in zip(specs, fingerprints, strict=True)]
    key = sha256_of([margin, arms])
    keyed = [replace(spec, key=f"{key}-{spec.session.arm}") for spec in specs if spec.session]
    continued = None if specs[0].fresh else _find_session(keyed, own_seed=own_seed)
    return [_share_virtual_machine(spec) for spec in (continued or keyed)]


def _find_session(specs: Sequence[RunSpec], *, own_seed: bool) -> list[RunSpec] | None:
    sessions: dict[str, dict[str, tuple[Path, Session]]] = {}
    for folder, start in sorted(_starts(specs[0].out), key=lambda found: str(found[1].get("created_utc"))):
        if start.get("key") in {spec.key for spec in specs}:
            session = Session.model_validate_json(json.dumps(start["session"]))
            sessions.setdefault(session.session_id, {})[start["key"]] = folder, session
    for arms in reversed(sessions.values()):
        seed = next(iter(arms.values()))[1].seed
        given = specs[0].session.seed if specs[0].session else None
        if any(may_continue(folder) for folder, _ in arms.values()) and not (own_seed and seed != given):
            return [_adopt(spec, arms) for spec in specs]
    return None


def _adopt(spec: RunSpec, arms: dict[str, tuple[Path, Session]]) -> RunSpec:
    """An arm of a known session: in its folder, or in a new one where a crash came before there was any."""
    known = next(iter(arms.values()))[1]
    identity = {"session_id": known.session_id, "seed": known.seed}
    session = spec.session.model_copy(update=identity) if spec.session else known
    folder = arms[spec.key][0] if spec.key in arms else None
    return replace(spec, session=session, resumes=folder)


def _share_virtual_machine(spec: RunSpec) -> RunSpec:
    """One virtual machine for both arms, unless one of them asks for another."""
    given = spec.environment.get(VARIABLE, "")
    if not spec.is_virtual or spec.session is None or "seed=" in given:
        return spec
    return replace(spec, environment={**spec.environment, VARIABLE: f"seed={spec.session.seed} {given}".strip()})


def _starts(out: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for journal in out.glob(f"*/{JOURNAL_NAME}"):
        if (start := read_start(journal.parent)) is not None:
            yield journal.parent, start
