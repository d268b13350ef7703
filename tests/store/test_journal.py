import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.errors import EnvironmentProblem, RecordError
from sdbench.store.journal import Journal, cut_torn_tail, encode_line, read_journal

ENTRIES = ({"kind": "start", "text": "ä\n"}, {"kind": "launch", "value": 0.1}, {"kind": "end"})


def write(path: Path) -> bytes:
    with Journal(path) as journal:
        for entry in ENTRIES:
            journal.append(entry)
    return path.read_bytes()


def test_entries_come_back_as_written(tmp_path: Path) -> None:
    content = write(tmp_path / "j")
    assert read_journal(tmp_path / "j") == (ENTRIES, len(content))


@given(cut=st.integers(min_value=1, max_value=len(encode_line(ENTRIES[2])) - 1))
def test_torn_tail_of_any_length_is_cut(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "j"
    content = write(path)
    path.write_bytes(content[:-cut])
    assert cut_torn_tail(path) == ENTRIES[:2]
    assert path.stat().st_size == len(content) - len(encode_line(ENTRIES[2]))


@given(data=st.data())
def test_flipped_bit_before_the_last_line_is_damage_and_names_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flip") / "j"
    content = bytearray(write(path))
    end = len(encode_line(ENTRIES[0])) + len(encode_line(ENTRIES[1]))
    position = data.draw(st.integers(0, end - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with contextlib.suppress(RecordError):
        entries, _ = read_journal(path)
        assert entries == ENTRIES, "a changed entry was accepted"


def test_journal_of_a_full_disk_keeps_its_entries(tmp_path: Path) -> None:
    content = write(tmp_path / "j")
    with Journal(Path("/dev/full")) as journal, pytest.raises(EnvironmentProblem, match="No space left"):
        journal.append({"kind": "launch"})
    assert (tmp_path / "j").read_bytes() == content
