"""Commands and examples of README and docs work as they are written."""

import os
import re
import shlex
from pathlib import Path

import pytest

from sdbench.cli.main import HELP, build_parser
from sdbench.models.networks import build_on_meta
from sdbench.models.pipeline_folders import Shipped, read_folder
from sdbench.schema.document import parse_yaml
from sdbench.schema.warning_codes import WarningCode
from tests.project.write_cli_docs import PATH, format_cli_docs
from tests.project.write_pipeline_docs import PATH as PIPELINES_PAGE
from tests.project.write_pipeline_docs import format_page

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
# Decisions name the commands of their time.
CURRENT = tuple(page for page in PAGES if page.parent.name != "adr")
VIRTUAL = """\
schema: sdbench/manifest/v1
title: Virtual
model: {pipeline: tiny-sd}
protocol: {launches_min: 2, launches_max: 2}
defaults: {backend: virtual, height: 64, width: 64, steps: 4}
experiments:
  - {id: one, title: One}
"""


def commands_of(page: Path) -> list[str]:
    """The sdbench commands of a page's code blocks."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^ {4}\$? ?(sdbench [a-z][^\n]*)$", text, re.MULTILINE)
    return [line.split("  #")[0].split(" # ")[0].strip() for line in blocks]


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_docs_are_commands(page: Path) -> None:
    for line in commands_of(page):
        for part in line.split(" && "):
            words = shlex.split(part.strip().removeprefix("sdbench "))
            assert words[0] in HELP, line
            if (
                len(words) > 1
                and "..." not in part
                and " > " not in part
                and not re.search(r"\b[A-Z]{3,}\b(?![=_-])", part.split('"')[0])
            ):
                build_parser(words[0]).parse_args(words[1:])


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_text_names_commands_that_exist(page: Path) -> None:
    for name in re.findall(r"`sdbench ([a-z][a-z-]*)", page.read_text(encoding="utf-8")):
        assert name in HELP


def test_page_of_commands_is_that_of_the_parsers() -> None:
    assert PATH.read_text(encoding="utf-8") == format_cli_docs()


def test_record_page_lists_every_warning_code() -> None:
    text = (ROOT / "docs" / "reference" / "record.md").read_text(encoding="utf-8")
    rows = [f"| `{code.value}` | {code.description} |" for code in WarningCode]
    assert "\n".join(rows) in text


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_example_of_the_api_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("manifest.yaml").write_text(VIRTUAL)
    exec(compile(example, "api.md", "exec"), {})
    assert Path("report.html").is_file()
    assert len(list(Path("results").glob("*/record.json"))) == 2


@pytest.mark.torch
def test_folder_of_the_docs_is_a_pipeline(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "how-to" / "add-a-pipeline.md").read_text(encoding="utf-8")
    files = re.findall(r"^`(small-flux/\S+)`\n\n```json\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    for path, content in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    config = read_folder(tmp_path / "small-flux", "small-flux")
    assert (config.denoiser_name, config.packing, config.pixels_per_token) == ("transformer", 2, 16)
    for name, component in config.networks.items():
        assert sum(tensor.numel() for tensor in build_on_meta(component).parameters()) > 0, name
    (line,) = re.findall(r"^ {4}(small-flux: \{.*\})$", text, re.MULTILINE)
    assert Shipped.model_validate(parse_yaml(line, "the line").value["small-flux"]).size % config.pixels_per_token == 0


def test_tables_of_pipelines_are_those_of_the_configs() -> None:
    page = PIPELINES_PAGE.read_text(encoding="utf-8")
    assert page == format_page(page)
    counts, sources = page.split("\n## Where the configs are from\n")
    (head,) = re.findall(r"^\| pipeline \|.*$", counts, re.MULTILINE)
    assert "| parameters in all |" in head
    assert re.findall(r"^\| pipeline \|.*$", sources, re.MULTILINE) == ["| pipeline | source |"]


def test_links_of_the_docs_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_docs_name_no_path_of_a_machine() -> None:
    for page in PAGES:
        assert os.environ.get("HOME", "/root") + "/" not in page.read_text(encoding="utf-8")
