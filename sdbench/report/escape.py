"""Text of a record on a page: records are untrusted input, shown and never interpreted."""

import unicodedata
from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

# Longer than any name, sentence or message that people read on a page; a manifest or a log is text of its own.
TEXT_CHARACTERS = 5_000
LONG_TEXT_CHARACTERS = 200_000
_KEPT = {"\n", "\t"}
# Ends of lines that JavaScript knows and JSON does not: between quotes they break Vega's expressions.
_LINE_ENDS = {"\u2028": " ", "\u2029": " "}
# What changes the direction of text, so that people and machines read it in different orders (CVE-2021-42574).
_BIDIRECTIONAL = {chr(code) for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def clean(text: str, most: int = TEXT_CHARACTERS) -> str:
    """Return a text without control characters, changes of direction and lone surrogates.

    A text of more than ``most`` characters is cut and marked.
    """
    if text.isascii() and text.isprintable() and len(text) <= most:
        return text
    kept = "".join(_LINE_ENDS.get(char, char) for char in text[:most] if char in _KEPT or _is_harmless(char))
    return f"{kept}… (cut)" if len(text) > most else kept


def find_link(address: str | None) -> str | None:
    """Return an address that a page may link to: http or https, with a host, without credentials; None for others."""
    if address is None or clean(address) != address or any(char.isspace() or char == "\\" for char in address):
        return None
    try:
        parts = urlsplit(address)
        has_credentials = parts.username is not None or parts.password is not None
        is_open = parts.scheme in ("http", "https") and bool(parts.hostname) and not has_credentials
        # Asking for the port refuses one that is none.
        _ = parts.port
    except ValueError:
        return None
    return address if is_open else None


def _is_harmless(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cs") and char not in _BIDIRECTIONAL


def _check_link(address: str) -> str:
    if find_link(address) is None:
        msg = "not http or https with a host and without credentials"
        raise ValueError(msg)
    return address


Text = Annotated[str, AfterValidator(clean)]
LongText = Annotated[str, AfterValidator(partial(clean, most=LONG_TEXT_CHARACTERS))]
Address = Annotated[str, AfterValidator(_check_link)]
