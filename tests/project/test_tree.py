"""What every file of the project owes its readers."""

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The text of the Apache License 2.0 as the foundation publishes it, without the leading empty line.
APACHE_2_SHA256 = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"

# Put together from parts, or this file would hold them itself.
FOREIGN_PLACES = tuple(
    re.compile(rf"(?<![\w.]){re.escape(start + end)}")
    for start, end in (
        ("pypi", ".org"),
        ("files.python", "hosted.org"),
        ("python", "hosted.org"),
        ("registry.npm", "js.org"),
        ("deb.", "debian.org"),
        ("proxy.", "golang.org"),
        ("/wo", "rk/"),
        ("/tmp", "/w/"),
        ("/opt/", "wheels"),
        ("/opt/", "pypi"),
    )
)
WRITTEN = re.compile(r"(^|/)\.|^(results|build|dist|[\w.]+\.egg-info)(/|$)|__pycache__")
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"(?P<attribute>[^\"]+)\"")


def tracked_files(ending: str = "") -> list[Path]:
    """The files of the project: those git tracks, or all but hidden and written ones in an unpacked archive."""
    if (ROOT / ".git").exists():
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        files = [ROOT / name for name in listing if name]
    else:
        files = [file for file in ROOT.rglob("*") if not WRITTEN.search(str(file.relative_to(ROOT)))]
    return [file for file in files if file.is_file() and file.name.endswith(ending)]


def foreign_places_in(text: str) -> list[str]:
    return [match[0] for place in FOREIGN_PLACES if (match := place.search(text))]


def broken_links_of(document: Path) -> list[str]:
    """The links of a Markdown file to files that are not there."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [match["target"] or match["attribute"] for match in LINK.finditer(text)]
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    return [target for target in local if target and not (document.parent / target).exists()]


def test_licence_is_the_full_apache_licence() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"


def test_no_file_names_a_package_registry_or_a_place_on_one_machine() -> None:
    matches = {}
    for file in tracked_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        if places := foreign_places_in(text):
            matches[str(file.relative_to(ROOT))] = places
    assert matches == {}


def test_foreign_place_is_seen() -> None:
    assert foreign_places_in("see https://py" + "pi.org/simple") == ["pypi" + ".org"]
    assert foreign_places_in("lies in '/wo" + "rk/main'") == ["/wo" + "rk/"]
    assert foreign_places_in("frame/work/home") == []


@pytest.mark.parametrize("document", [str(file.relative_to(ROOT)) for file in tracked_files(".md")])
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    assert broken_links_of(ROOT / document) == []


def test_broken_link_is_seen(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text('[a](missing.md) ![b](page.md "title") [c](https://example.org/x) <img src="gone.png">')
    assert broken_links_of(document) == ["missing.md", "gone.png"]
