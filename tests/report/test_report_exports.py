"""What can be saved of a page: charts as files, and the answers as Markdown."""

import re
from pathlib import Path

import pytest

from sdbench.errors import EnvironmentProblem
from sdbench.report.markdown import format_markdown
from sdbench.report.save_charts import save_charts
from sdbench.report.text_report import print_report
from tests.compare.test_comparison import session_of
from tests.records import make_manifest, make_record
from tests.views import build_view


def test_every_chart_becomes_a_file_with_colours_of_its_own(tmp_path: Path) -> None:
    arms = session_of(1.0, 0), session_of(1.1, 1).model_copy(update={"seal": "1" * 64})
    paths = save_charts(build_view(arms), tmp_path / "charts")
    names = {path.name for path in paths}
    assert {"compare-1.svg", "compare-1.png", "latency-1.svg"} <= names
    for path in paths:
        content = path.read_bytes()
        assert b"var(--" not in content
        assert content.startswith(b"<svg" if path.suffix == ".svg" else b"\x89PNG")


def test_charts_that_cannot_be_written_are_a_problem_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        save_charts(build_view((make_record(),)), tmp_path / "file" / "charts")


def test_markdown_has_the_four_answers_and_the_verdicts() -> None:
    arms = session_of(1.0, 0), session_of(1.1, 1).model_copy(update={"seal": "1" * 64})
    text = format_markdown(build_view(arms))
    assert "**threads=b is slower than threads=a: +10" in text
    for question in ("What does it take?", "Can I trust this?", "Can I repeat it?"):
        assert f"**{question}**" in text
    assert "| Experiment | What | Verdict |" in text
    assert "slower" in text


def test_the_terminal_has_the_four_answers_and_the_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    title = "[bold]A title[/bold] \x1b[31m"
    before = make_record(manifest=make_manifest(title=title))
    after = make_record(run_id="after", created_utc="2026-02-01T00:00:00Z")
    print_report(build_view((before, after)))
    text = capsys.readouterr().out
    for question in ("Which machine?", "Can I trust this?", "Can I repeat it?"):
        assert question in text
    assert "compared with" in text
    assert "[bold]A title[/bold] [31m" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("text", ["@octocat", "https://user:pw@evil.example", "www.evil.example", "a@b.example"])
def test_markdown_mentions_nobody_and_links_nowhere(text: str) -> None:
    markdown = format_markdown(build_view((make_record(manifest=make_manifest(title=text)),)))
    assert not re.search(r"(?i)@[a-z]|://|www\.", markdown)


def test_nothing_of_a_record_is_markup_in_markdown() -> None:
    record = make_record(manifest=make_manifest(title="<img src=x> [x](javascript:1) |\n# `a`"))
    line = format_markdown(build_view((record,))).splitlines()[0]
    assert line == r"# \<img src=x\> \[x\](javascript:1) \| \# \`a\`"
