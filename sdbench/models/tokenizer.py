"""The tokenizer of CLIP, built from the vocabulary that the open_clip_torch wheel carries."""

import gzip
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdbench.errors import EnvironmentProblem

TOKENS_PER_PROMPT = 77
START_TOKEN = "<|startoftext|>"  # noqa: S105 - a word of the vocabulary
END_TOKEN = "<|endoftext|>"  # noqa: S105 - a word of the vocabulary
_WORD_END = "</w>"
_VOCABULARY_PACKAGE = "open_clip"
_VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
# Of the text, not of the archive: the same text packed again is still the same tokenizer.
_VOCABULARY_SHA256 = "67603cfda2e032ad77b5f8808af37789d590db664b26df8705d2bf8b3c553fc8"
_VOCABULARY_SIZE = 49_408
_BYTE_COUNT = 256
_SPECIAL_COUNT = 2
# The file lists 262,144 merges; CLIP uses as many as fill its vocabulary beside each byte, alone and ending a word.
_MERGE_COUNT = _VOCABULARY_SIZE - 2 * _BYTE_COUNT - _SPECIAL_COUNT


def build_tokenizer() -> Any:
    """Return CLIP's tokenizer, which pads and cuts to 77 tokens.

    Raises:
        EnvironmentProblem: the wheel that carries the vocabulary is absent, or its file is damaged.
    """
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    vocabulary, merges = parse_vocabulary(read_vocabulary_text(find_vocabulary_file()))
    # Without model_max_length nothing would be cut: transformers then assumes 1e30.
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS_PER_PROMPT)


def find_vocabulary_file() -> Path:
    """Return where the vocabulary lies, without importing the package around it (which asks for torchvision).

    Raises:
        EnvironmentProblem: the package is not installed, or lacks the file.
    """
    spec = find_spec(_VOCABULARY_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / _VOCABULARY_FILE
        if path.is_file():
            return path
    raise EnvironmentProblem(
        f"the vocabulary of CLIP ({_VOCABULARY_FILE}) is not installed; it comes with open_clip_torch: "
        "run `pip install --no-deps open_clip_torch`"
    )


def read_vocabulary_text(path: Path) -> str:
    """Return the list of merges in the archive at ``path``.

    Raises:
        EnvironmentProblem: the file is not the vocabulary of CLIP.
    """
    remedy = "run `pip install --no-deps --force-reinstall open_clip_torch`"
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise EnvironmentProblem(f"the vocabulary of CLIP cannot be read ({type(error).__name__}); {remedy}") from None
    if hashlib.sha256(content).hexdigest() != _VOCABULARY_SHA256:
        raise EnvironmentProblem(f"{path.name} is not the vocabulary of CLIP (its SHA-256 differs); {remedy}")
    return content.decode("utf-8")


def parse_vocabulary(text: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the id of every token, and the merges in their order; the first line of ``text`` is a heading."""
    lines = text.split("\n")[1 : _MERGE_COUNT + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    letters = _byte_letters()
    tokens = [*letters, *(letter + _WORD_END for letter in letters), *(left + right for left, right in merges)]
    tokens += [START_TOKEN, END_TOKEN]
    return {token: index for index, token in enumerate(tokens)}, merges


def _byte_letters() -> list[str]:
    """Return a visible letter for each byte: itself where it is printable Latin-1, else the next from U+0100."""
    soft_hyphen = 0xAD
    printable = [*range(0x21, 0x7F), *(code for code in range(0xA1, 0x100) if code != soft_hyphen)]
    return [chr(code) for code in printable] + [chr(_BYTE_COUNT + k) for k in range(_BYTE_COUNT - len(printable))]
