from pathlib import Path

from sdbench.report.charts.encode import mark_variables, shapes_of
from sdbench.report.model import ReproduceSection, SummarySection
from sdbench.report.points import make_source
from sdbench.report.render import render_report
from sdbench.report.view import build_view
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record
from tests.records import make_out_of_memory, make_record, make_result, make_succeeded
from tests.report.inputs import column, find_section, find_table

REFERENCE = Path(__file__).parents[2] / "reports" / "reference"
FULL_SIZE = {"architecture": "sd-v1-4", "height": 512, "width": 512, "steps": 50}


def make_published(name: str) -> Record:
    (folder,) = REFERENCE.glob(f"*{name}*/")
    return load_record(folder)


def make_own() -> Record:
    results = (
        make_result(make_succeeded(1.87, 3, "cuda:0", steps=50), precision="fp16", **FULL_SIZE),
        make_result(make_out_of_memory(partial=()), batch=2, **FULL_SIZE),
        make_result(make_succeeded(0.5, 3, "cuda:0", steps=50), batch=4, tf32=True, **FULL_SIZE),
    )
    return make_record(device="cuda:0", results=results)


def test_published_machine_is_told_apart_by_its_name() -> None:
    source = make_source((make_own(), make_published("a100")), None, None)
    assert source.machine_names == ("NVIDIA H200", "NVIDIA A100 80GB PCIe (published, 2022)")


def test_page_of_published_machines_alone_and_beside_a_run_is_drawn() -> None:
    published = [load_record(folder) for folder in sorted(REFERENCE.glob("*/"))]
    for records in (published, [make_own(), *published], [make_record(), published[0]]):
        assert "(published, 2022)" in render_report(build_view(records))


def test_published_figure_has_no_interval_anywhere() -> None:
    view = build_view((make_published("a100"),))
    results = find_table(view, "results")
    assert set(column(results, "low") + column(results, "high") + column(results, "samples")) == {"—"}
    assert set(column(results, "Status")) == {"published"}
    (chart,) = find_section(view, "latency").charts
    assert chart.kind == "points"
    assert {mark.low for mark in chart.marks} == {None}
    assert "no samples" in find_section(view, "latency").paragraphs[0]
    assert "one launch" not in " ".join(mark.text for mark in chart.marks)


def test_yours_stands_beside_theirs_with_a_ratio_and_no_verdict() -> None:
    table = find_table(build_view((make_own(), make_published("a100"))), "published")
    assert [one.title for one in table.columns][-2:] == ["published, s", "yours / published"]
    assert column(table, "published, s") == ["3.740", "11.12"]
    yours, full = column(table, "yours, s")
    assert abs(float(yours) / 1.87 - 1) < 0.01
    assert full == "out of memory"
    ratio, none = column(table, "yours / published")
    assert abs(float(ratio) - float(yours) / 3.74) < 0.001
    assert none == "—"
    low, high = float(column(table, "low")[0]), float(column(table, "high")[0])
    assert low < float(yours) < high


def test_experiment_with_another_option_is_not_put_beside() -> None:
    table = find_table(build_view((make_own(), make_published("a100"))), "published")
    assert not any("TF32" in name for name in column(table, "Experiment"))


def test_theirs_out_of_memory_is_said() -> None:
    table = find_table(build_view((make_own(), make_published("3080"))), "published")
    assert column(table, "published, s") == ["5.590", "out of memory"]


def test_caveats_are_notes_also_when_nothing_can_be_joined() -> None:
    beside = find_table(build_view((make_own(), make_published("a100"))), "published")
    assert any("autocast was not recorded" in note for note in beside.notes)
    alone = find_section(build_view((make_published("a100"),)), "published")
    assert any("TF32 was not recorded" in paragraph for paragraph in alone.paragraphs)
    none = find_section(build_view((make_own(),)), "published")
    assert "No published machine" in none.paragraphs[0]


def test_summary_answers_with_ones_own_figures_where_there_are_some() -> None:
    slow = make_record(results=(make_result(make_succeeded(900.0, 3, steps=50), precision="fp16", **FULL_SIZE),))
    summary = find_section(build_view((slow, make_published("a100"))), "summary")
    assert isinstance(summary, SummarySection)
    assert ": 15 m" in summary.cards[0].answer
    alone = find_section(build_view((make_published("a100"),)), "summary")
    assert isinstance(alone, SummarySection)
    assert alone.cards[0].answer.endswith(": 3.74 s")
    assert not any("one launch only" in line for card in alone.cards for line in card.lines)


def test_memory_of_a_published_figure_says_what_it_means() -> None:
    view = build_view((make_published("a100"),))
    assert set(column(find_table(view, "results"), "which memory")) == {"torch.cuda.memory_reserved() after one call"}
    (chart,) = find_section(view, "memory").charts
    assert "torch.cuda.memory_reserved()" in chart.caption


def test_import_is_what_repeats_a_published_record() -> None:
    section = find_section(build_view((make_published("epyc"),)), "reproduce")
    assert isinstance(section, ReproduceSection)
    (recipe,) = section.recipes
    assert recipe.command == "sdbench import lambda-2022.csv --steps 50"
    values = dict(zip(column(recipe.facts[0], "What"), column(recipe.facts[0], "Value"), strict=True))
    assert values["Seed"] == values["torch"] == "not recorded by the source"


def test_no_two_of_many_machines_share_colour_and_shape() -> None:
    names = [f"machine {index}" for index in range(36)]
    colours = [mark_variables()[index % len(mark_variables())] for index in range(36)]
    assert len(set(zip(colours, shapes_of(names), strict=True))) == 36
