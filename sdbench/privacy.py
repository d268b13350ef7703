"""Redaction: names of persons, hosts and cards, and secrets, are removed from texts before they are written."""

import os
import pwd
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

_ROOT = Path("/")
# Shorter names occur inside ordinary text ("vm", "a1"), where they identify nobody.
_MIN_NAME_LENGTH = 3
# Shorter values of secret variables ("true", "1") are switches.
_MIN_SECRET_LENGTH = 6

# Users and hosts that many machines have, and words of ordinary messages.
_NO_NAMES = {"root", "user", "nobody", "ubuntu", "debian", "admin", "localhost", "docker", "runner", "worker", "python"}

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|AUTH|COOKIE|(?:^|_)(?:PASS|KEY|DSN)$|_PWD$|^DSN$"
)
# The shell's own, which is a path.
_NOT_SECRET = {"OLD_PWD"}

# Serial numbers and identifiers the kernel shows; each is read only to be removed from texts.
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
# Firmware fills unset serial numbers with words like these, which identify nothing.
_NO_SERIALS = {
    "none",
    "not specified",
    "default string",
    "to be filled by o.e.m.",
    "system serial number",
    "unknown",
    "no asset tag",
}

# What is recognized by its form: UUIDs of GPUs (torch prints them without the prefix), MAC addresses, tokens of the hub
# and of HTTP, homes of others.
_FORMS = (
    (re.compile(r"\b(GPU|MIG)-[0-9a-fA-F]{4,}(?:-[0-9a-fA-F]+)*(?:/\d+/\d+)?"), r"\1-(redacted)"),
    (re.compile(r"(?<![\w-])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![\w-])"), "(uuid)"),
    (re.compile(r"(?<![0-9A-Fa-f:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:-])"), "(mac)"),
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), "(secret)"),
    (re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 (secret)"),
    (re.compile(r"/(?:home|Users)/[^/\s:'\",;)\]]+"), "~"),
)
# In a URL: all before the last @ of a host, and before any @ where a password holds a slash.
_URL_CREDENTIALS = re.compile(r"(?<=://)(?:[^/\s:@]+:[^\s'\"<>]*@|[^/\s]*@)")
# Without a scheme, as libraries quote addresses: user:password@host.
_BARE_CREDENTIALS = re.compile(r"(?<![\w./:@-])[\w.+-]+:[^\s:/@'\"<>]+@(?=[A-Za-z0-9\[])")
_URL_PASSWORD = re.compile(r"://[^/\s:@]+:([^\s'\"<>]+)@")


def strip_credentials(text: str) -> str:
    """Return a text without the user names and passwords of the addresses in it."""
    return _BARE_CREDENTIALS.sub("", _URL_CREDENTIALS.sub("", text))


class Redactor:
    """Removes from free text what identifies this machine or its user, and secrets."""

    def __init__(
        self, root: Path = _ROOT, environ: Mapping[str, str] | None = None, *, every_variable: bool = False
    ) -> None:
        """Collect what must not be written, from the environment, the user database and the kernel.

        With ``every_variable`` the value of each variable is removed too, for texts that are published.
        """
        environ = os.environ if environ is None else environ
        values = environ.values() if every_variable else ()
        literals = {value: "(variable)" for value in values if len(value) >= _MIN_SECRET_LENGTH}
        literals |= dict.fromkeys(_find_homes(environ), "~")
        literals |= dict.fromkeys(_find_serials(root), "(serial)")
        literals |= dict.fromkeys(_find_secrets(environ), "(secret)")
        words = dict.fromkeys(_find_hosts(root, environ), "(host)") | dict.fromkeys(_find_users(environ), "(user)")
        self._substitutions = (
            # A home of "/ann" must not match the start of "/annex"; secrets and serial numbers hide anywhere.
            *_compile(literals, lambda text, label: text + (r"(?![A-Za-z0-9_])" if label == "~" else "")),
            *_FORMS,
            *_compile(words, lambda text, _label: rf"(?<![A-Za-z0-9]){text}(?![A-Za-z0-9])"),
        )

    def redact(self, text: str) -> str:
        """Return ``text`` without home paths, names, tokens, credentials, serial numbers, MAC addresses, GPU UUIDs."""
        text = strip_credentials(text)
        for pattern, label in self._substitutions:
            text = pattern.sub(label, text)
        return text


def is_secret_name(name: str) -> bool:
    """Return whether a variable of this name contains a secret."""
    return _SECRET_NAME.search(name.upper()) is not None and name.upper() not in _NOT_SECRET


def _compile(labels: Mapping[str, str], make_pattern: Callable[[str, str], str]) -> list[tuple[re.Pattern[str], str]]:
    texts = sorted(labels, key=len, reverse=True)
    return [(re.compile(make_pattern(re.escape(text), labels[text]), re.IGNORECASE), labels[text]) for text in texts]


def _find_secrets(environ: Mapping[str, str]) -> set[str]:
    values = {value for name, value in environ.items() if is_secret_name(name)}
    # A proxy's password may be quoted without its address.
    values |= {match[1] for value in environ.values() for match in _URL_PASSWORD.finditer(value)}
    return {value for value in values if len(value) >= _MIN_SECRET_LENGTH}


def _read_texts(root: Path, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            yield (root / name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue


def _find_serials(root: Path) -> set[str]:
    addresses = (str(path.relative_to(root)) for path in root.glob("sys/class/net/*/address"))
    values = (value.rstrip("\x00").strip() for value in _read_texts(root, (*_SERIAL_FILES, *addresses)))
    return {
        value
        for value in values
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
    return _keep_names(names)


def _keep_names(names: Iterable[str]) -> set[str]:
    return {name for name in names if len(name) >= _MIN_NAME_LENGTH and name.lower() not in _NO_NAMES}


def _user_entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:  # a container started with a user id that has no entry
        return None


def _find_hosts(root: Path, environ: Mapping[str, str]) -> set[str]:
    names = {environ.get("HOSTNAME", ""), socket.gethostname()}
    names |= set(_read_texts(root, ("proc/sys/kernel/hostname", "etc/hostname")))
    return _keep_names(names | {name.split(".")[0] for name in names})
