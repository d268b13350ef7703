"""From records to the typed view: everything that is worded, rounded and ordered happens on the way here."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Protocol, cast

from sdbench.errors import UserError
from sdbench.report.costs import unpriced_names
from sdbench.report.limits import DRAWN_ONE_BY_ONE, RESULTS, RUNS, limit_section, limit_source, say_limit
from sdbench.report.model import Chapter, ReportView, Section
from sdbench.report.pairs import compare_runs
from sdbench.report.points import Images, Source, Telemetry, make_source
from sdbench.report.prices import NO_PRICES, Prices
from sdbench.report.sections import CHAPTERS, SECTIONS
from sdbench.report.text import format_count, list_some
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.store.collector import pause_collector


class SectionModule(Protocol):
    """What a module named in ``CHAPTERS`` offers."""

    def build(self, source: Source) -> Section:
        """Return the section of this page."""


def build_view(
    records: Sequence[Record],
    telemetry: Telemetry | None = None,
    images: Images | None = None,
    prices: Prices = NO_PRICES,
) -> ReportView:
    """Return the page's view of one or more records, joined on the experiment id.

    Args:
        records: in the order in which their machines are shown.
        telemetry: per run id, the telemetry of each launch: (experiment id, launch index, series).
        images: per run id and path within the bundle, the bytes of the images.
        prices: what the machines cost.

    Raises:
        UserError: there is no record, too many, the same one twice, or the prices' names fit no machine.
    """
    _refuse_unusable(records)
    with pause_collector():
        return _build_view(records, telemetry, images, prices)


def _build_view(
    records: Sequence[Record], telemetry: Telemetry | None, images: Images | None, prices: Prices
) -> ReportView:
    source = make_source(records, telemetry, images, prices)
    _refuse_prices_of_others(source)
    source = replace(source, compared=compare_runs(source))
    return ReportView(
        title=" / ".join(dict.fromkeys(record.manifest.title for record in records)),
        subtitle=_subtitle(source),
        notice=_notice(source),
        chapters=tuple(
            Chapter(name=name, title=title, sections=tuple(_build(section, source) for section in sections))
            for name, (title, sections) in CHAPTERS.items()
        ),
        footer="It asks the network for nothing and works without JavaScript.",
        seals=tuple(record.seal for record in records),
    )


def _build(name: str, source: Source) -> Section:
    module = cast("SectionModule", import_module(f"{SECTIONS}.{name}"))
    if name not in DRAWN_ONE_BY_ONE or (part := limit_source(source)) is source:
        return limit_section(module.build(source))
    return say_limit(limit_section(module.build(part)), source)


def _refuse_unusable(records: Sequence[Record]) -> None:
    if not records:
        raise UserError("a report needs at least one record; name a run's folder")
    if len(records) > RUNS:
        raise UserError(
            f"{len(records)} runs are too many for one page, which holds {RUNS}; name fewer, "
            "or make a page for each: sdbench site"
        )
    result_count = sum(len(record.results) for record in records)
    if result_count > RESULTS:
        raise UserError(f"{result_count:,} results are too many for one page, which holds {RESULTS:,}; name fewer runs")
    seals = [record.seal for record in records]
    for record in records:
        if seals.count(record.seal) > 1:
            raise UserError(f"the record of run {record.run_id!r} is given twice; name each run once")


def _refuse_prices_of_others(source: Source) -> None:
    names = list(source.prices.by_name)
    if names and unpriced_names(source) == names:
        devices = ", ".join(source.machine_names)
        raise UserError(f"no name in the prices ({', '.join(names)}) is part of a machine's: {devices}; mend the names")


def _subtitle(source: Source) -> str:
    records = [machine.record for machine in source.machines]
    days = dict.fromkeys(record.created_utc[:10] for record in records)
    experiments = format_count(len({point.planned.experiment_id for point in source.points}), "experiment")
    versions = dict.fromkeys(
        f"sdbench {version.value}"
        for record in records
        if isinstance(version := record.fingerprint.software.sdbench_version, Known)
    )
    words = [list_some(source.machine_names), experiments, list_some(list(days)), list_some(list(versions))]
    return " · ".join(word for word in words if word)


def _notice(source: Source) -> str | None:
    cut = [machine.name for machine in source.machines if machine.record.ended != "complete"]
    virtual = [machine.name for machine in source.machines if machine.record.origin == "virtual"]
    sentences = []
    if virtual:
        sentences.append(f"Virtual: the figures of {list_some(virtual)} are drawn from a noise model, of no machine.")
    if cut:
        sentences.append(f"Not finished: the record of {list_some(cut)} holds what was done by then.")
    return " ".join(sentences) or None
