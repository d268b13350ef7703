"""Names of kernels, short enough for a table and still apart where their templates differ."""

import hashlib
import re
from functools import cache

NAME_CHARACTERS = 120
_DIGITS = 6
_NOISE = re.compile(r"^void |\(anonymous namespace\)::|\(unnamed namespace\)::|at::native::|\bstd::")


@cache
def shorten_kernel(name: str) -> str:
    """Return a kernel's name without its result, its arguments and common namespaces, at most 120 characters.

    A name that is still longer ends with a digest of the whole, so that two templates stay apart.
    """
    short = _NOISE.sub("", _without_arguments(name))
    if len(short) <= NAME_CHARACTERS:
        return short
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{short[: NAME_CHARACTERS - _DIGITS - 1]}~{digest}"


def _without_arguments(name: str) -> str:
    """Return a C++ function's name without its last parentheses; of a copy they are what it is."""
    text = name.rstrip()
    if not text.endswith(")") or text.startswith(("Memcpy", "Memset")):
        return text
    depth = 0
    for index in range(len(text) - 1, 0, -1):
        depth += (text[index] == ")") - (text[index] == "(")
        if depth == 0:
            return text[:index].rstrip() or text
    return text
