"""Plain words: what no native engineer would write is in no code, message, help text or page."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Pattern -> what to write.
WORDS = {
    r"\bbad[ _]ends?\b|\bend_badly\b|\bBadEnd\b": "failure",
    r"\bremed(y|ies)\b": "hint",
    r"\bdoubt\w*": "warning, quality check",
    r"\btrust checks?\b|\bspeaks? against\b": "quality check",
    r"\bnotices?\b": "warning",
    r"\bwithh[eo]ld\w*": "redacted",
    r"\bin turns?\b|\bforth and back\b|\btak(e|es|ing|ook) turns\b": "interleaved",
    r"\bset-ups?\b|\bsurroundings\b": "configuration, environment",
    r"\bstrangers?\b": "untrusted",
    r"\bwhat (may )?leaves?\b|\bmay leave\b": "what is published",
    r"\b_?(say|tell|told)_\w*|\b_(said|told|seen|found)\b|\bsay[=:(]|\bworker's voice\b": "report_, emit_",
    r"\btold\b|\btells\b": "reported, reports",
    r"^ *(found|seen)(: [^=]+)? = |\bfor (found|seen) in\b": "what it is: match, problems, digests",
    r"\bdoes not look\b|\bis not whole\b|\bnone that tells\b": "incomplete, too wide to be useful",
    r"\bfigures?\b": "result, metric, value; a figure is a chart",
    r"\bprecise enough\b|\bmost allowed\b": "converged, max_launches, max_calls",
    r"to_the_end|now_and_then|without_room|\b_?go_on\b": "run, rate_limited, record_out_of_memory, resume",
    r"\blast words\b": "last line of output",
    r"\black(s|ing)?\b|\bLack\b": "missing",
    r"\banew\b": "again, from scratch",
    r"\bgo(es|ing)? on\b": "continue, resume",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bbesides?\b": "next to, in addition to",
    r"\balike\b": "identical",
    r"\bsound (record|run|manifest|bundle|archive|file)s?\b|\b(is|test)_sound\b|_sound_run": "valid",
    r"\bto be had\b|\bcan(not)? be had\b": "available",
    r"\bleave it (out|away)\b": "omit it",
    r"\bno valid\b|\bis no (share|count|event|number|record)\b": "invalid, not a",
    r"\btold, not judged\b": "informational",
    r"\bpreview-export\b|\bsdbench (launch|index|export)\b": "publish --dry-run, run --image, query",
    r"\bpublished figures?\b": "reference result",
}
# Where a word is right: file -> words, with the reason.
EXCEPTIONS = {
    "sdbench/report/templates/macros.html.j2": {"figure"},  # the HTML element
    "sdbench/report/templates/report.css": {"figure"},  # the HTML element
    "sdbench/models/synthetic.py": {"notice"},  # the verb
}
# Words that are wrong in these folders only: what is compared is baseline and candidate, or arm A and arm B.
WORDS_OF_COMPARISONS = re.compile(r"\bsides?\b", re.IGNORECASE)
FOLDERS_OF_COMPARISONS = ("sdbench/compare/", "sdbench/cli/")
FOLDERS = ("sdbench", "containers", "manifests", "docs", "requirements", "tests")
# Not read: this test, and texts of others or of an earlier version that are data.
DATA = ("tests/project/test_vocabulary.py", "tests/golden/", "docs/adr/")
SINGLE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "Dockerfile.cpu", "Dockerfile.cuda", ".ci/run")
ENDINGS = (".py", ".sh", ".tsv", ".flags", ".yaml", ".j2", ".js", ".css", ".md")


def pages() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS, *SINGLE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split() if name.endswith(ENDINGS) or name in SINGLE]


@pytest.mark.parametrize("pattern", WORDS)
def test_word_is_nowhere(pattern: str) -> None:
    matches = [
        f"{name}:{number}: {match[0]!r} (write: {WORDS[pattern]})"
        for name in pages()
        if not name.startswith(DATA)
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1)
        for match in re.finditer(pattern, line, re.IGNORECASE)
        if match[0].lower() not in EXCEPTIONS.get(name, set())
    ]
    assert matches == []


def test_what_is_compared_has_no_sides() -> None:
    names = [name for name in pages() if name.startswith(FOLDERS_OF_COMPARISONS)]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    assert [name for name, text in texts.items() if WORDS_OF_COMPARISONS.search(text)] == []


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exception_is_still_needed(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    matches = {match[0].lower() for pattern in WORDS for match in re.finditer(pattern, text, re.IGNORECASE)}
    assert matches >= EXCEPTIONS[name]


def test_a_forbidden_word_would_be_found() -> None:
    assert any(re.search(pattern, "mend the doubtful figure", re.IGNORECASE) for pattern in WORDS)
