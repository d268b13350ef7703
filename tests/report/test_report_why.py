"""What makes a difference, on the page: the sentence, the chart, the table, and how much of a page it takes."""

from random import Random

import pytest

from sdbench.report.chart_model import ChangeChart
from sdbench.report.model import Section
from sdbench.schema.base import Known, Unknown
from sdbench.schema.record import Record
from tests.operator_tables import SECONDS, make_arm, profile, slow_down
from tests.records import make_planned
from tests.report.inputs import find_section
from tests.report.untrusted import PAYLOADS, refuse_what_is_not_inert
from tests.views import build_view, render_report

CONVOLUTION = ("aten::mkldnn_convolution",)


def make_arms(count: int = 1, operator: str = CONVOLUTION[0], *, has_tables: bool = True) -> list[Record]:
    """Two arms with ``count`` experiments, of which the second takes 0.1 s longer, in one operator."""
    noise = Random(1)
    rows = {(phase, operator if "conv" in name else name): value for (phase, name), value in SECONDS.items()}
    arms = []
    for arm, changed in (("a", rows), ("b", slow_down((operator,), 0.1, rows))):
        table = Known(value=profile(changed, noise)) if has_tables else Unknown(reason="protocol.operators is never")
        records = [make_arm(arm, changed, table, noise) for _ in range(count)]
        results = tuple(
            record.results[0].model_copy(update={"planned": make_planned(seed=seed)})
            for seed, record in enumerate(records)
        )
        arms.append(records[0].model_copy(update={"results": results, "seal": {"a": "1", "b": "2"}[arm] * 64}))
    return arms


def section_of(records: list[Record]) -> Section:
    section = find_section(build_view(records), "why")
    assert isinstance(section, Section)
    return section


def test_difference_is_a_sentence_a_chart_and_a_table() -> None:
    section = section_of(make_arms())
    assert "of it is convolution" in section.paragraphs[0]
    (chart,) = section.charts
    assert isinstance(chart, ChangeChart)
    assert chart.marks[0].label == "denoising steps: mkldnn_convolution"
    assert (chart.marks[0].kind, chart.marks[-1].kind) == ("longer", "whole")
    assert chart.marks[-1].text.endswith("100 %")
    (table,) = section.tables
    assert [cell.text for cell in table.rows[0]][:3] == ["denoising steps", "mkldnn_convolution", "140"]
    assert table.notes[1].startswith("By kind: convolution")


def test_difference_without_tables_is_not_explained_and_says_why() -> None:
    section = section_of(make_arms(has_tables=False))
    assert section.charts == ()
    assert "has no table of operators: protocol.operators is never" in section.tables[0].rows[0][-1].text
    assert section.tables[0].rows[0][-1].tone == "muted"


def test_identical_runs_have_nothing_to_explain() -> None:
    noise = Random(2)
    table = Known(value=profile(SECONDS, noise))
    same = [make_arm(arm, SECONDS, table, noise).model_copy(update={"seal": arm * 64}) for arm in ("a", "b")]
    section = section_of(same)
    assert section.is_bare
    assert section.paragraphs[0].startswith("Nothing to explain")


def test_many_experiments_are_a_table_of_sentences_and_the_largest_are_drawn() -> None:
    section = section_of(make_arms(9))
    assert len(section.charts) == 6
    assert len(section.tables[0].rows) == 9
    assert section.paragraphs[-1] == "Drawn are the 6 largest changes; sdbench compare --why prints 3 experiments more."


def test_reasons_of_forty_experiments_take_less_than_150_kib() -> None:
    view = build_view(make_arms(40))
    bare = Section(name="why", paragraphs=("nothing",))
    chapters = tuple(
        chapter.model_copy(
            update={"sections": tuple(bare if part.name == "why" else part for part in chapter.sections)}
        )
        for chapter in view.chapters
    )
    added = len(render_report(view)) - len(render_report(view.model_copy(update={"chapters": chapters})))
    assert 50 * 1024 < added < 150 * 1024


@pytest.mark.parametrize("payload", PAYLOADS[::8])
def test_names_of_operators_are_letters_on_the_page(payload: str) -> None:
    refuse_what_is_not_inert(render_report(build_view(make_arms(operator=f"conv{payload}"))))
