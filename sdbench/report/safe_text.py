"""Text of a record on a page: records come from strangers, and what they say is shown, never obeyed."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator

# Long enough for any manifest or log that a person reads on a page.
TEXT_CHARACTERS = 200_000
_KEPT = {"\n", "\t"}
# What turns the direction of text, so that people and machines read it in other orders (CVE-2021-42574).
_TURNING = {chr(code) for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def clean(text: str) -> str:
    """Return a text without control characters, turned directions and lone surrogates, and of a sane length."""
    if text.isascii() and text.isprintable() and len(text) <= TEXT_CHARACTERS:
        return text
    kept = "".join(char for char in text[:TEXT_CHARACTERS] if char in _KEPT or _is_harmless(char))
    return f"{kept}… (cut)" if len(text) > TEXT_CHARACTERS else kept


def _is_harmless(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cs") and char not in _TURNING


Text = Annotated[str, AfterValidator(clean)]
