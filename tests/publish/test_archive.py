"""A bundle is byte for byte the archive of its files, and what untrusted input put into one is refused in one line."""

import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.errors import RecordError
from sdbench.publish.archive import pack, read_bundle, unpack
from sdbench.publish.bundle import export_bundle
from tests.runs import make_run

GOLDEN = Path(__file__).parents[1] / "golden" / "archive-v1.zip"
FILES = {"record.json": b"{}", "images/a-0.webp": b"\x00\x01", "telemetry.jsonl": b""}


@pytest.fixture
def bundle(tmp_path: Path) -> bytes:
    make_run(tmp_path / "run-1")
    return export_bundle(tmp_path / "run-1", {}).archive


def stored_zip(
    name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644, method: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        entry.compress_type = method
        archive.writestr(entry, content)
    return buffer.getvalue()


def test_same_files_give_the_same_bytes_in_any_order_and_on_any_version_of_python() -> None:
    assert pack(FILES) == pack(dict(reversed(FILES.items()))) == GOLDEN.read_bytes()
    assert unpack(pack(FILES), "it") == FILES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid archive"),
        (b"PK\x03\x04 and no more", "not a valid archive"),
        (stored_zip("../../etc/cron.d/x"), r"names '\.\./\.\./etc/cron\.d/x', outside its folder"),
        (stored_zip("/etc/passwd"), "names '/etc/passwd', outside its folder"),
        (stored_zip("record.json", b"/etc/passwd", stat.S_IFLNK | 0o777), "'record.json' is a link"),
        (stored_zip("run.sh"), "contains 'run.sh', which no run has"),
        (stored_zip("images/../record.json"), "outside its folder"),
        (
            stored_zip("record.json", b"\0" * 10_000_000, method=zipfile.ZIP_DEFLATED),
            "is compressed and claims 9.54 MiB",
        ),
        (stored_zip("record.json") + b"more", "not a valid archive|belong to none of its files"),
        (b"more" + stored_zip("record.json"), "belong to none of its files|not a valid archive"),
    ],
)
def test_strange_archive_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        unpack(content, "it.zip")
    assert "\n" not in str(caught.value)


def test_claim_of_ten_gigabytes_is_refused_before_anything_is_read() -> None:
    content = bytearray(stored_zip("record.json", b"x" * 100))
    claimed = (10 * 2**30 & 0xFFFFFFFF).to_bytes(4, "little")
    central = content.index(b"PK\x01\x02")
    content[central + 20 : central + 28] = claimed * 2
    with pytest.raises(RecordError, match=r"claim|not a valid archive"):
        unpack(bytes(content), "it.zip")


def test_two_files_of_one_name_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("record.json", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("record.json", b"2")
    with pytest.raises(RecordError, match="two files of one name"):
        unpack(buffer.getvalue(), "it.zip")


def test_file_that_the_record_does_not_name_is_refused(bundle: bytes) -> None:
    files = unpack(bundle, "it") | {"images/more.webp": b"x"}
    with pytest.raises(RecordError, match=r"'images/more\.webp' is not named"):
        read_bundle(pack(files), "it.zip")


def test_missing_and_changed_files_are_refused(bundle: bytes) -> None:
    files = unpack(bundle, "it")
    without = {name: content for name, content in files.items() if name != "telemetry.jsonl"}
    with pytest.raises(RecordError, match=r"names 'telemetry\.jsonl', but it is missing"):
        read_bundle(pack(without), "it.zip")
    with pytest.raises(RecordError, match=r"'telemetry\.jsonl' was changed"):
        read_bundle(pack(files | {"telemetry.jsonl": b"{}"}), "it.zip")


def test_any_flipped_bit_of_a_bundle_is_detected(bundle: bytes) -> None:
    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, len(bundle) * 8 - 1))
    def flip(bit: int) -> None:
        changed = bytearray(bundle)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordError):
            read_bundle(bytes(changed), "it.zip")

    flip()


def test_every_flipped_byte_outside_the_files_is_detected() -> None:
    # Headers, names, checksums, the directory: where a hash of each file would not look.
    content = pack({"record.json": b"{}", "images/a.webp": b"picture"})
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        try:
            files = unpack(bytes(changed), "it.zip")
        except RecordError:
            continue
        # A flip within a file's bytes is caught by its checksum, or else is another archive of other files.
        raise AssertionError((place, files))


def test_directory_that_lists_more_than_the_archive_holds_is_refused_before_it_is_read() -> None:
    valid = pack({"record.json": b"{}"})
    end, entries = valid[-22:], valid[valid.index(b"PK\x01\x02") : -22]
    many = entries * 50_000
    bomb = valid[: -22 - len(entries)] + many + end[:12] + len(many).to_bytes(4, "little") + end[16:]
    with pytest.raises(RecordError, match="lists more than it holds"):
        unpack(bomb, "it")
    with pytest.raises(RecordError, match="its end is missing"):
        unpack(valid + b"\0", "it")
