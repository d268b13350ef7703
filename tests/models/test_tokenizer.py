import gzip
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem
from sdbench.models import tokenizer as tokenizer_module
from sdbench.models.tokenizer import build_tokenizer, find_vocabulary_file, parse_vocabulary, read_vocabulary_text

START, END = 49406, 49407


@cache
def tokenizer() -> Any:
    return build_tokenizer()


def ids_of(text: str) -> list[int]:
    ids: list[int] = tokenizer()(text, padding="max_length", max_length=77, truncation=True).input_ids
    return ids


def test_the_astronaut_has_the_ids_of_clip() -> None:
    ids = [START, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496, END]
    assert tokenizer()("a photo of an astronaut riding a horse on mars").input_ids == ids


def test_case_and_repeated_spaces_do_not_matter() -> None:
    assert ids_of("A  PHOTO of\tan astronaut") == ids_of("a photo of an astronaut")


def test_a_short_prompt_is_padded_to_77_with_the_end_token() -> None:
    ids = ids_of("a photo")
    assert ids[:4] == [START, 320, 1125, END]
    assert ids[3:] == [END] * 74


def test_a_long_prompt_is_cut_to_77_and_still_ends() -> None:
    ids = ids_of("horse " * 500)
    assert ids == [START, *[4558] * 75, END]


def test_the_empty_prompt_is_start_and_padding() -> None:
    assert ids_of("") == [START, *[END] * 76]


def test_any_bytes_have_tokens() -> None:
    text = "naïve 北京 \N{ROCKET} ½"
    assert tokenizer().decode(tokenizer()(text).input_ids, skip_special_tokens=True) == text


def test_the_length_limit_is_known_to_the_tokenizer() -> None:
    assert tokenizer().model_max_length == 77


def test_the_vocabulary_has_a_distinct_token_for_every_id() -> None:
    vocabulary, merges = parse_vocabulary(read_vocabulary_text(find_vocabulary_file()))
    assert sorted(vocabulary.values()) == list(range(49_408))
    assert len(merges) == 48_894


def test_an_absent_wheel_is_named_with_its_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install --no-deps open_clip_torch"):
        find_vocabulary_file()


@pytest.mark.parametrize("content", [b"no archive", gzip.compress(b"#version\ni n\n"), b""])
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(content)
    with pytest.raises(EnvironmentProblem, match="force-reinstall"):
        read_vocabulary_text(path)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(find_vocabulary_file().read_bytes()[:-5000])
    with pytest.raises(EnvironmentProblem, match="force-reinstall"):
        read_vocabulary_text(path)
