from pathlib import Path

from sdbench.report.charts.encode import mark_variables, shapes_of
from sdbench.report.model import ReproduceSection, SummarySection
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record
from tests.records import make_out_of_memory, make_record, make_result, make_succeeded
from tests.report.inputs import column, find_section, find_table
from tests.views import build_view, make_source, render_report

REFERENCE = Path(__file__).parents[2] / "reports" / "reference"
FULL_SIZE = {
    "pipeline": "sd-1.4",
    "height": 512,
    "width": 512,
    "steps": 50,
    "attention": "eager",
    "tf32": "convolutions",
}


def make_reference(name: str) -> Record:
    (folder,) = REFERENCE.glob(f"*{name}*/")
    return load_record(folder)


def make_own() -> Record:
    results = (
        make_result(make_succeeded(1.87, 3, "cuda:0", steps=50), precision="fp16", autocast="fp16", **FULL_SIZE),
        make_result(make_out_of_memory(partial=()), batch=2, **FULL_SIZE),
        make_result(make_succeeded(0.5, 3, "cuda:0", steps=50), batch=4, **FULL_SIZE | {"tf32": True}),
    )
    return make_record(device="cuda:0", results=results)


def test_name_of_a_reference_machine_has_origin_and_year() -> None:
    source = make_source((make_own(), make_reference("a100")), None, None)
    assert source.machine_names == ("NVIDIA H200", "NVIDIA A100 80GB PCIe (reference, 2022)")


def test_page_of_reference_machines_alone_and_next_to_a_run_is_drawn() -> None:
    references = [load_record(folder) for folder in sorted(REFERENCE.glob("*/"))]
    for records in (references, [make_own(), *references], [make_record(), references[0]]):
        assert "(reference, 2022)" in render_report(build_view(records))


def test_reference_result_has_no_interval_anywhere() -> None:
    view = build_view((make_reference("a100"),))
    results = find_table(view, "results")
    assert set(column(results, "low") + column(results, "high") + column(results, "samples")) == {"—"}
    assert set(column(results, "Status")) == {"reference"}
    (chart,) = find_section(view, "summary").charts
    assert chart.kind == "points"
    assert {(mark.low, mark.is_open) for mark in chart.marks} == {(None, False)}
    assert "launch" not in " ".join(mark.text for mark in chart.marks)


def test_yours_stands_beside_theirs_with_a_ratio_and_no_verdict() -> None:
    table = find_table(build_view((make_own(), make_reference("a100"))), "reference")
    assert [one.title for one in table.columns][-2:] == ["reference, s", "yours / reference"]
    assert column(table, "reference, s") == ["3.740", "11.12"]
    yours, full = column(table, "yours, s")
    assert abs(float(yours) / 1.87 - 1) < 0.01
    assert full == "out of memory"
    ratio, none = column(table, "yours / reference")
    assert abs(float(ratio) - float(yours) / 3.74) < 0.001
    assert none == "—"
    low, high = float(column(table, "low")[0]), float(column(table, "high")[0])
    assert low < float(yours) < high


def test_experiment_with_another_option_is_not_put_beside() -> None:
    table = find_table(build_view((make_own(), make_reference("a100"))), "reference")
    assert not any("batch 4" in name for name in column(table, "Experiment"))


def test_theirs_out_of_memory_is_said() -> None:
    table = find_table(build_view((make_own(), make_reference("3080"))), "reference")
    assert column(table, "reference, s") == ["5.590", "out of memory"]


def test_caveats_are_notes_also_when_nothing_can_be_joined() -> None:
    table = find_table(build_view((make_own(), make_reference("a100"))), "reference")
    assert any("does not record autocast" in note for note in table.notes)
    alone = find_section(build_view((make_reference("a100"),)), "reference")
    assert any("does not record TF32" in paragraph for paragraph in alone.paragraphs)
    none = find_section(build_view((make_own(),)), "reference")
    assert "name them next to your run" in none.paragraphs[0]


def test_summary_answers_with_ones_own_figures_where_there_are_some() -> None:
    slow = make_record(
        results=(make_result(make_succeeded(900.0, 3, steps=50), precision="fp16", autocast="fp16", **FULL_SIZE),)
    )
    summary = find_section(build_view((slow, make_reference("a100"))), "summary")
    assert isinstance(summary, SummarySection)
    assert summary.headline.startswith("One 512x512 image, 50 steps of SD v1.4, takes 15 m")
    assert summary.lead[0] == "fp16 autocast: 241x slower than A100 80GB PCIe, 2022 (3.74 s, fp16 autocast)."
    alone = find_section(build_view((make_reference("a100"),)), "summary")
    assert isinstance(alone, SummarySection)
    assert ": 3.74 s for one 512x512 image" in alone.headline
    assert not any("launch" in line for card in alone.cards for line in card.lines)


def test_memory_of_a_reference_result_has_its_meaning() -> None:
    view = build_view((make_reference("a100"),))
    assert set(column(find_table(view, "results"), "which memory")) == {"torch.cuda.memory_reserved() after one call"}
    (chart,) = find_section(view, "memory").charts
    assert "torch.cuda.memory_reserved()" in chart.caption


def test_import_is_what_repeats_a_reference_record() -> None:
    section = find_section(build_view((make_reference("epyc"),)), "reproduce")
    assert isinstance(section, ReproduceSection)
    (recipe,) = section.recipes
    assert recipe.command.splitlines()[-1] == ".venv/bin/sdbench import lambda-2022.csv --steps 50"
    values = dict(zip(column(recipe.facts[0], "What"), column(recipe.facts[0], "Value"), strict=True))
    assert values["Seed"] == values["torch"] == "not recorded by the source"


def test_no_two_of_many_machines_share_colour_and_shape() -> None:
    names = [f"machine {index}" for index in range(36)]
    colours = [mark_variables()[index % len(mark_variables())] for index in range(36)]
    assert len(set(zip(colours, shapes_of(names), strict=True))) == 36
