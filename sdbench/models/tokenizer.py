"""Tokenizers without a hub: CLIP's, from the vocabulary in the open_clip_torch wheel, and drawn ids for others."""

import gzip
import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdbench.errors import EnvironmentProblem

TOKENS_PER_PROMPT = 77
START_TOKEN = "<|startoftext|>"  # noqa: S105 - a word of the vocabulary
END_TOKEN = "<|endoftext|>"  # noqa: S105 - a word of the vocabulary
# The ids below mean padding and the ends of texts.
_FIRST_ORDINARY_ID = 3
_WORD_END = "</w>"
_VOCABULARY_PACKAGE = "open_clip"
# Set in the container images, which have only the file.
_VOCABULARY_VARIABLE = "SDBENCH_CLIP_VOCABULARY"
_VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
# Of the text, not of the archive: the same text packed again is still the same tokenizer.
_VOCABULARY_SHA256 = "67603cfda2e032ad77b5f8808af37789d590db664b26df8705d2bf8b3c553fc8"
# The file lists 262,144 merges; CLIP uses as many as fill its 49,408 tokens next to each byte, alone and ending a word,
# and the two special ones.
_MERGE_COUNT = 49_408 - 2 * 256 - 2


def build_tokenizer(pad_token: str | None = None) -> Any:
    """Return CLIP's tokenizer, which pads with ``pad_token`` (by default the end token) and cuts to 77 tokens.

    Raises:
        EnvironmentProblem: the wheel that carries the vocabulary is absent, or its file is damaged.
    """
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    vocabulary, merges = parse_vocabulary(read_vocabulary_text(find_vocabulary_file()))
    # Without model_max_length nothing would be cut: transformers then assumes 1e30.
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=TOKENS_PER_PROMPT, pad_token=pad_token or END_TOKEN
    )


class DrawnTokens:
    """Stands for a tokenizer whose vocabulary is on the hub only: ids drawn from the text, always of one length.

    The pipelines that have such tokenizers pad to that length, so the work is that of any prompt of it.
    """

    def __init__(self, vocabulary_size: int, token_count: int) -> None:
        self.model_max_length = token_count
        self._vocabulary_size = vocabulary_size

    def __call__(self, texts: str | list[str], **_: Any) -> Any:
        """Return the ids and the attention mask of each text, (texts, tokens) int64, nothing masked."""
        import torch
        from transformers import BatchEncoding

        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
            generator = torch.Generator("cpu").manual_seed(seed)
            shape = (self.model_max_length,)
            rows.append(torch.randint(_FIRST_ORDINARY_ID, self._vocabulary_size, shape, generator=generator))
        ids = torch.stack(rows)
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    def tokenize(self, _text: str) -> list[str]:
        """Return no words: diffusers looks among them for those that textual inversion has added."""
        return []

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        """Return the text of the messages."""
        return "\n".join(message["content"] for message in messages)


def find_vocabulary_file() -> Path:
    """Return where the vocabulary is, without importing the package around it (which needs torchvision).

    Raises:
        EnvironmentProblem: the package is not installed, or does not contain the file.
    """
    if named := os.environ.get(_VOCABULARY_VARIABLE):
        return Path(named)
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
    hint = "run `pip install --no-deps --force-reinstall open_clip_torch`"
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise EnvironmentProblem(f"the vocabulary of CLIP cannot be read ({type(error).__name__}); {hint}") from None
    if hashlib.sha256(content).hexdigest() != _VOCABULARY_SHA256:
        raise EnvironmentProblem(f"{path.name} is not the vocabulary of CLIP (its SHA-256 differs); {hint}")
    return content.decode("utf-8")


def parse_vocabulary(text: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the id of every token, and the merges in their order; the first line of ``text`` is a heading."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    lines = text.split("\n")[1 : _MERGE_COUNT + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    letters = bytes_to_unicode().values()
    tokens = [*letters, *(letter + _WORD_END for letter in letters), *(left + right for left, right in merges)]
    tokens += [START_TOKEN, END_TOKEN]
    return {token: index for index, token in enumerate(tokens)}, merges
