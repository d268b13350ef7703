"""Nothing that names a person, a host or a single card leaves the machine: redaction of texts, hashing of UUIDs."""

import hmac
import os
import pwd
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from sdbench.probes.files import ROOT, explain_os_error, list_names, read_text
from sdbench.schema.base import Known, Reading, Unknown

# Shorter names occur inside ordinary text ("vm", "a1"), where they name nobody.
_MIN_NAME_LENGTH = 3
# Shorter values of secret variables ("true", "1") are switches.
_MIN_SECRET_LENGTH = 6
_SALT_BYTES = 32

# Users and hosts that every second machine has, and words of ordinary messages.
_NO_NAMES = {"root", "user", "nobody", "ubuntu", "debian", "admin", "localhost", "docker", "runner", "worker", "python"}

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|AUTH")

# Serial numbers and identifiers the kernel shows; each is read only to be found in texts and taken out.
_SERIAL_FILES = (
    "sys/class/dmi/id/product_serial",
    "sys/class/dmi/id/product_uuid",
    "sys/class/dmi/id/board_serial",
    "sys/class/dmi/id/board_asset_tag",
    "sys/class/dmi/id/chassis_serial",
    "sys/class/dmi/id/chassis_asset_tag",
    "sys/firmware/devicetree/base/serial-number",
    "proc/device-tree/serial-number",
    "etc/machine-id",
    "proc/sys/kernel/random/boot_id",
)
# Firmware fills unset serial numbers with words like these, which name nothing.
_NO_SERIALS = {
    "none",
    "not specified",
    "default string",
    "to be filled by o.e.m.",
    "system serial number",
    "unknown",
    "no asset tag",
}

_GPU_UUID = re.compile(r"\b(GPU|MIG)-[0-9a-fA-F]{4,}(?:-[0-9a-fA-F]+)*(?:/\d+/\d+)?")
_MAC = re.compile(r"(?<![0-9A-Fa-f:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:-])")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_BEARER = re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}")
# What stands before the last @ of a host, and before any where a password holds a slash.
_URL_CREDENTIALS = re.compile(r"(?<=://)(?:[^/\s:@]+:[^\s'\"<>]*@|[^/\s]*@)")
_ANY_HOME = re.compile(r"/(?:home|Users)/[^/\s:'\",;)\]]+")


def strip_credentials(text: str) -> str:
    """Return a text without the user names and passwords of the URLs in it."""
    return _URL_CREDENTIALS.sub("", text)


class Redactor:
    """Takes out of free text what names this machine, its user or a secret."""

    def __init__(
        self, root: Path = ROOT, environ: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        """Collect what must not be written, from the environment, the user database and the kernel.

        ``more`` maps further texts to what stands for them.
        """
        environ = os.environ if environ is None else environ
        literals = dict(more or {}) | dict.fromkeys(_find_homes(environ), "~")
        literals |= dict.fromkeys(_find_serials(root), "(serial)")
        literals |= dict.fromkeys(_find_secrets(environ), "(secret)")
        # A home of "/ann" must not eat the start of "/annex"; secrets and serial numbers hide anywhere.
        self._literals = [
            (re.compile(re.escape(value) + (r"(?![A-Za-z0-9_])" if label == "~" else ""), re.IGNORECASE), label)
            for value, label in sorted(literals.items(), key=lambda item: -len(item[0]))
        ]
        words = {**dict.fromkeys(_find_hosts(root, environ), "(host)"), **dict.fromkeys(_find_users(environ), "(user)")}
        self._words = [
            (re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE), label)
            for word, label in sorted(words.items(), key=lambda item: -len(item[0]))
        ]

    @classmethod
    def of_everything(cls, environ: Mapping[str, str], root: Path = ROOT) -> "Redactor":
        """Return one that takes out the value of every variable too, for texts that leave the machine."""
        values = (value for value in environ.values() if len(value) >= _MIN_SECRET_LENGTH)
        return cls(root, environ, dict.fromkeys(values, "(variable)"))

    def redact(self, text: str) -> str:
        """Return ``text`` without home paths, names, tokens, serial numbers, MAC addresses and GPU UUIDs."""
        for literal, label in self._literals:
            text = literal.sub(label, text)
        text = _GPU_UUID.sub(r"\1-(redacted)", text)
        text = _MAC.sub("(mac)", text)
        text = _HUB_TOKEN.sub("(secret)", text)
        text = _BEARER.sub(r"\1 (secret)", text)
        text = _ANY_HOME.sub("~", text)
        for word, label in self._words:
            text = word.sub(label, text)
        return text


def is_secret_name(name: str) -> bool:
    """Return whether a variable of this name holds a secret."""
    return _SECRET_NAME.search(name.upper()) is not None


def _find_secrets(environ: Mapping[str, str]) -> set[str]:
    return {value for name, value in environ.items() if is_secret_name(name) and len(value) >= _MIN_SECRET_LENGTH}


def _find_serials(root: Path) -> set[str]:
    values = {reading.value for name in _SERIAL_FILES if isinstance(reading := read_text(root, name), Known)}
    interfaces = list_names(root, "sys/class/net")
    for interface in () if isinstance(interfaces, Unknown) else interfaces.value:
        address = read_text(root, f"sys/class/net/{interface}/address")
        if isinstance(address, Known):
            values.add(address.value)
    cleaned = {value.rstrip("\x00").strip() for value in values}
    return {
        value
        for value in cleaned
        if len(value) >= _MIN_SECRET_LENGTH and value.lower() not in _NO_SERIALS and set(value) - set("0:-. ")
    }


def _find_homes(environ: Mapping[str, str]) -> set[str]:
    homes = {environ.get("HOME", ""), environ.get("USERPROFILE", "")}
    entry = _user_entry()
    if entry is not None:
        homes.add(entry.pw_dir)
    return {home.rstrip("/") for home in homes if len(home.rstrip("/")) > 1}


def _find_users(environ: Mapping[str, str]) -> set[str]:
    names = {environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")}
    names |= {Path(home).name for home in _find_homes(environ)}
    entry = _user_entry()
    if entry is not None:
        # The full name is the first part of the comment field.
        names |= {entry.pw_name, entry.pw_gecos.split(",")[0]}
    return {name for name in names if len(name) >= _MIN_NAME_LENGTH and name.lower() not in _NO_NAMES}


def _user_entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:  # a container started with a user id that has no entry
        return None


def _find_hosts(root: Path, environ: Mapping[str, str]) -> set[str]:
    names = {environ.get("HOSTNAME", ""), socket.gethostname()}
    for name in ("proc/sys/kernel/hostname", "etc/hostname"):
        reading = read_text(root, name)
        if isinstance(reading, Known):
            names.add(reading.value)
    names |= {name.split(".")[0] for name in names}
    return {name for name in names if len(name) >= _MIN_NAME_LENGTH and name.lower() not in _NO_NAMES}


def uuid_hmac(uuid: str, salt: bytes) -> str:
    """Return 32 hex digits that link records of one card on one host, and name the card to nobody else."""
    return hmac.new(salt, uuid.encode(), "sha256").hexdigest()[:32]


def hash_uuid(uuid: Reading[str], salt: Reading[bytes]) -> Reading[str]:
    """Return the HMAC of a UUID that was read, or why there is none."""
    if isinstance(uuid, Unknown):
        return uuid
    return salt if isinstance(salt, Unknown) else Known(value=uuid_hmac(uuid.value, salt.value))


def load_salt(environ: Mapping[str, str] | None = None) -> Reading[bytes]:
    """Return this user's salt (32 bytes), made at the first call and readable by the user alone."""
    environ = os.environ if environ is None else environ
    state = environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state).expanduser() / "sdbench" / "salt"
    try:
        salt = _read_or_create_salt(path)
    except OSError as error:
        return explain_os_error(error, "the salt in $XDG_STATE_HOME/sdbench")
    if len(salt) != _SALT_BYTES:
        return Unknown(reason="the salt in $XDG_STATE_HOME/sdbench has been changed; remove it")
    return Known(value=salt)


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
            # A link appears whole or not at all, and loses to another process that was first.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
