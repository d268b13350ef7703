"""From records to the typed view: everything that is worded, rounded and ordered happens on the way here."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from itertools import combinations

from sdbench.errors import UserError
from sdbench.report.caps import DRAWN_ONE_BY_ONE, RESULTS, RESULTS_DRAWN, RUNS, limit_section
from sdbench.report.format import list_some
from sdbench.report.model import Chapter, ReportView, Section
from sdbench.report.naming import is_one_session, name_device
from sdbench.report.prices import NO_PRICES, Prices
from sdbench.report.sections import CHAPTERS, SECTIONS
from sdbench.report.sections.compare import compare_runs
from sdbench.report.series import Source, make_source
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.store.bundle import pause_collector
from sdbench.store.run import Run
from sdbench.units import format_count


def build_view(runs: Sequence[Run], prices: Prices = NO_PRICES, *, with_references: bool = True) -> ReportView:
    """Return the page's view of one or more runs, joined on the experiment id.

    Args:
        runs: in the order in which their machines are shown.
        prices: what the machines cost.
        with_references: show the 2022 study's machines next to the runs, where they answer one question.

    Raises:
        UserError: there is no run, too many, the same one twice, or the prices' names match no machine.
    """
    records = [run.record for run in runs]
    _refuse_unusable(records)
    with pause_collector():
        source = replace(make_source(runs, prices), with_references=with_references)
        _refuse_unmatched_prices(source)
        source = replace(source, compared=compare_runs(source))
        return ReportView(
            title=" / ".join(dict.fromkeys(record.manifest.title for record in records)),
            subtitle=_subtitle(source),
            warning=_warning(source),
            chapters=tuple(
                Chapter(name=name, title=title, sections=tuple(_build(section, source) for section in sections))
                for name, (title, sections) in CHAPTERS.items()
            ),
            seals=tuple(record.seal for record in records),
        )


def _build(name: str, source: Source) -> Section:
    """The section that a module builds, or the reason that it gives for having nothing to show."""
    module = import_module(f"{SECTIONS}.{name}")
    notes = []
    if name in DRAWN_ONE_BY_ONE and (count := len(source.points)) > RESULTS_DRAWN:
        source = replace(source, points=source.points[:RESULTS_DRAWN])
        notes = [f"Drawn from the first {RESULTS_DRAWN} of {count:,} results; All results has every one."]
    built: Section | str = module.build(source)
    section = Section(paragraphs=(built,)) if isinstance(built, str) else built
    return limit_section(section.model_copy(update={"name": name, "title": module.TITLE}), notes)


def _refuse_unusable(records: Sequence[Record]) -> None:
    if not records:
        raise UserError("a report needs at least one record; name a run's folder")
    if len(records) > RUNS:
        raise UserError(
            f"{len(records)} runs are too many for one page, which holds {RUNS}; name fewer, "
            "or write a page for each: sdbench site"
        )
    result_count = sum(len(record.results) for record in records)
    if result_count > RESULTS:
        raise UserError(f"{result_count:,} results are too many for one page, which holds {RESULTS:,}; name fewer runs")
    for first, second in combinations(records, 2):
        if first.seal == second.seal:
            raise UserError(f"the record of run {first.run_id!r} is given twice; name each run once")


def _refuse_unmatched_prices(source: Source) -> None:
    devices = [machine.record.device_name.lower() for machine in source.machines]
    names = source.prices.by_name
    if names and not any(name.lower() in device for name in names for device in devices):
        machines = ", ".join(source.machine_names)
        raise UserError(f"no name in the prices ({', '.join(names)}) is part of a machine's: {machines}; fix the names")


def _subtitle(source: Source) -> str:
    records = [machine.record for machine in source.machines]
    versions = [record.fingerprint.software.sdbench_version for record in records]
    names = list_some(source.machine_names)
    if is_one_session(records):
        names = f"{name_device(records[0])} · {' → '.join(source.machine_names)}"
    parts = [
        names,
        format_count(len({point.planned.experiment_id for point in source.points}), "experiment"),
        list_some(list(dict.fromkeys(record.created_utc[:10] for record in records))),
        list_some(list(dict.fromkeys(f"sdbench {item.value}" for item in versions if isinstance(item, Known)))),
    ]
    return " · ".join(filter(None, parts))


def _warning(source: Source) -> str | None:
    cut = [machine.name for machine in source.machines if machine.record.ended != "complete"]
    virtual = [machine.name for machine in source.machines if machine.record.origin == "virtual"]
    verb = "is a noise model, not a machine" if len(virtual) == 1 else "are noise models, not machines"
    sentences = [f"Simulated results: {list_some(virtual)} {verb}."] if virtual else []
    if cut:
        sentences.append(f"Incomplete: {list_some(cut)} stopped early; its record has the results so far.")
    return " ".join(sentences) or None
