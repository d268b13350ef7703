"""Salted hashes of identifiers: they link records of one card on one host, and name the card to nobody else."""

import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from sdbench.probes.readings import ReadingFailed, as_reading, value_of
from sdbench.probes.sysfs import explain_os_error
from sdbench.schema.base import Reading

_SALT_BYTES = 32


@as_reading
def hash_uuid(uuid: Reading[str], salt: Reading[bytes]) -> str:
    """Return the HMAC (32 hex digits) of a UUID that was read, or why there is none."""
    text, key = value_of(uuid), value_of(salt)
    return hmac.new(key, text.encode(), "sha256").hexdigest()[:32]


@as_reading
def load_salt(environ: Mapping[str, str]) -> bytes:
    """Return this user's salt (32 bytes), made at the first call and readable by the user alone."""
    state = environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state).expanduser() / "sdbench" / "salt"
    try:
        salt = _read_or_create_salt(path)
    except OSError as error:
        raise ReadingFailed(explain_os_error(error, "the salt in $XDG_STATE_HOME/sdbench")) from None
    if len(salt) != _SALT_BYTES:
        raise ReadingFailed("the salt in $XDG_STATE_HOME/sdbench has been changed; remove it")
    return salt


def _read_or_create_salt(path: Path) -> bytes:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"salt.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(_SALT_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # Linking is atomic, and fails if another process was first.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
