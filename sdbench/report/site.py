"""Many runs as a static site: an index, pages of runs, machines and comparisons, and an Atom feed of regressions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.policy import MARGIN
from sdbench.compare.trends import Trend, find_trend
from sdbench.compare.versions import count_versions, version_of
from sdbench.compare.wording import describe_there, format_change, format_interval, headline
from sdbench.errors import UserError
from sdbench.report.caps import RUNS
from sdbench.report.escape import clean
from sdbench.report.format import TONES, Row, cell, make_table, texts
from sdbench.report.grouping import group_by
from sdbench.report.model import LinkedCell, SiteView
from sdbench.report.naming import name_machines
from sdbench.report.render import render_site, write_view
from sdbench.report.sections.trend import FIELDS
from sdbench.report.site_numbers import find_fastest, make_numbers_chart, make_numbers_table
from sdbench.report.view import build_view
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.store.files import write_whole
from sdbench.store.run import Run
from sdbench.units import format_count

# A page holds all pairs of so many runs; of a machine with more the latest are shown.
RUNS_ON_A_MACHINES_PAGE = 6
_NAME_DIGITS = 16
_ATOM = "http://www.w3.org/2005/Atom"
_NO_TIME = "1970-01-01T00:00:00Z"
_TIME = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z")
MACHINES_PAGE = "comparisons/machines.html"
# What every index of a site holds.
_MARK = b'title="Regressions" href="feed.xml"'
_MACHINE_COLUMNS = texts("Machine", "Origin", "Runs", "Latest")
_RUN_COLUMNS = texts("Run of", "Manifest", "Measured", "Driver", "Ended", "Compared with the run before")


@dataclass(frozen=True)
class Change:
    """What became of a machine from one run to the next."""

    before: Record
    after: Record
    comparison: Comparison

    @property
    def page(self) -> str:
        """The page of the site that compares the two."""
        return f"comparisons/{self.before.seal[:_NAME_DIGITS]}-{self.after.seal[:_NAME_DIGITS]}.html"


@dataclass(frozen=True)
class Regression:
    """Something that became slower, and the first run that shows it."""

    record: Record
    what: str
    title: str
    summary: str
    page: str


def write_site(runs: Sequence[Run], folder: Path) -> Path:
    """Write the site of runs into ``folder`` and return its index. The same runs give the same bytes.

    Args:
        runs: in any order; files are named after their records' seals.
        folder: where the site goes; files of the same names are replaced, others left as they are.

    Raises:
        UserError: no run is given, one twice, or the folder has an index of another kind.
        EnvironmentProblem: the ``report`` extra is not installed, or a file cannot be written.
    """
    index = folder / "index.html"
    if index.is_file() and _MARK not in index.read_bytes():
        raise UserError(f"{index} exists and is not a site of sdbench; choose another folder")
    if not runs:
        raise UserError("a site needs at least one run; name a folder of runs")
    by_seal = {run.record.seal: run for run in runs}
    ordered = sorted((run.record for run in runs), key=lambda record: (record.created_utc, record.seal))
    machines = group_by(ordered, _machine_page)
    changes = {page: _changes(of_machine) for page, of_machine in machines.items()}
    all_changes = [change for of_machine in changes.values() for change in of_machine]
    pages: dict[str, Sequence[Record]] = {_run_page(record): [record] for record in ordered}
    pages |= {page: of_machine[-RUNS_ON_A_MACHINES_PAGE:] for page, of_machine in machines.items()}
    pages |= {change.page: [change.before, change.after] for change in all_changes}
    if len(machines) > 1:
        pages[MACHINES_PAGE] = [of_machine[-1] for of_machine in machines.values()][-RUNS:]
    # One at a time: all views together would take a multiple of the records' memory.
    for name, shown in pages.items():
        write_view(build_view([by_seal[record.seal] for record in shown]), folder / name, home="../index.html")
    regressions = [item for page, members in machines.items() for item in find_regressions(members, changes[page])]
    write_whole(folder / "feed.xml", _make_feed(regressions))
    # Last, so that an index never names a missing page.
    write_whole(index, render_site(_index(ordered, machines, all_changes, len(regressions))).encode())
    return index


def _run_page(record: Record) -> str:
    """A run's page within the site: named after its seal, because a run's id is untrusted."""
    return f"runs/{record.seal[:_NAME_DIGITS]}.html"


def _machine_page(record: Record) -> str:
    origin, hardware_sha256, device = record.machine_key
    # cpu or cuda:0, but an untrusted record may have anything.
    device = re.sub("[^a-z0-9]", "", device)[:_NAME_DIGITS]
    return f"machines/{hardware_sha256[:_NAME_DIGITS]}-{device}-{origin}.html"


def _changes(of_machine: Sequence[Record]) -> list[Change]:
    return [
        Change(before, after, compare_records([before], [after], MARGIN, known=of_machine))
        for before, after in pairwise(of_machine)
        # Reference results have no samples to compare.
        if after.origin != "imported"
    ]


def find_regressions(of_machine: Sequence[Record], changes: Sequence[Change]) -> list[Regression]:
    """Return what became slower on one machine: from run to run, and over the versions of what people update."""
    regressions = [
        Regression(
            change.after,
            "run",
            f"{change.after.device_name}: {headline(change.comparison)}",
            f"What differs: {change.comparison.attribution}",
            change.page,
        )
        for change in changes
        if change.comparison.verdict == "slower"
    ]
    for field in FIELDS:
        if count_versions(of_machine, field) > 1:
            regressions += _slower_steps(find_trend(of_machine, field, MARGIN), field, of_machine)
    return regressions


def _slower_steps(trend: Trend, field: str, of_machine: Sequence[Record]) -> Iterator[Regression]:
    steps: dict[str, list[str]] = {}
    changes: dict[str, str] = {}
    for experiment in trend.experiments:
        for step in experiment.steps:
            if step.judgement.verdict == "slower" and step.judgement.ratio is not None:
                text = f"{experiment.label} {format_change(step.judgement.ratio)} [{format_interval(step.judgement)}]"
                steps.setdefault(step.first_version, []).append(text)
                changes[step.first_version] = describe_there(step.changes, step.moved)
    companions = f"; not only {trend.by} changed: {', '.join(trend.also)}" if trend.also else ""
    for version, texts_of_step in steps.items():
        first = next(record for record in of_machine if version_of(record, field) == version)
        count = format_count(len(texts_of_step), "experiment")
        there = f"; also changed there: {changes[version]}" if changes[version] else ""
        title = f"{trend.device_name}: {count} slower from {field} {version} on"
        yield Regression(first, field, title, "; ".join(texts_of_step) + there + companions, _run_page(first))


def _make_feed(regressions: Sequence[Regression]) -> bytes:
    """An Atom feed (RFC 4287) of regressions, the latest first."""
    ET.register_namespace("", _ATOM)
    feed = ET.Element(f"{{{_ATOM}}}feed")
    ordered = sorted(regressions, key=lambda item: (item.record.created_utc, item.record.seal, item.what), reverse=True)
    # The same over the life of a site: it is that of its first regression.
    first = ordered[-1].record.seal if ordered else "none"
    updated = _time_of(ordered[0].record) if ordered else _NO_TIME
    _add(feed, id=f"urn:sdbench:regressions:sha256:{first}", title="sdbench: regressions", updated=updated)
    _add(ET.SubElement(feed, f"{{{_ATOM}}}author"), name="sdbench")
    for item in ordered:
        entry = ET.SubElement(feed, f"{{{_ATOM}}}entry")
        _add(
            entry,
            id=f"urn:sdbench:{item.what}:sha256:{item.record.seal}",
            title=item.title,
            updated=_time_of(item.record),
            summary=item.summary,
        )
        ET.SubElement(entry, f"{{{_ATOM}}}link", {"href": item.page})
    ET.indent(feed)
    content: bytes = ET.tostring(feed, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _time_of(record: Record) -> str:
    """A record's time in the form of RFC 3339; an untrusted record may have anything there."""
    return record.created_utc if _TIME.fullmatch(record.created_utc) else _NO_TIME


def _add(parent: ET.Element, **texts_by_name: str) -> None:
    for name, text in texts_by_name.items():
        ET.SubElement(parent, f"{{{_ATOM}}}{name}").text = clean(text)


def _index(
    ordered: Sequence[Record],
    machines: Mapping[str, Sequence[Record]],
    changes: Sequence[Change],
    regression_count: int,
) -> SiteView:
    change_to = {change.after.seal: change for change in changes}
    named = zip(ordered, name_machines(ordered), strict=True)
    runs = [_run_row(record, name, change_to.get(record.seal)) for record, name in named]
    counts = [format_count(len(ordered), "run"), format_count(len(machines), "machine")]
    fastest = find_fastest(machines)
    return SiteView(
        title="sdbench results",
        subtitle=f"{counts[0]} of {counts[1]}; {format_count(regression_count, 'regression')}",
        comparison=MACHINES_PAGE if len(machines) > 1 else None,
        chart=make_numbers_chart(fastest),
        numbers=make_numbers_table(fastest),
        machines=make_table(counts[1], _MACHINE_COLUMNS, [_machine_row(*item) for item in machines.items()]),
        runs=make_table(f"{counts[0]}, the latest first", _RUN_COLUMNS, reversed(runs)),
    )


def _machine_row(page: str, of_machine: Sequence[Record]) -> Row:
    latest = of_machine[-1]
    name = LinkedCell(text=latest.device_name, link=page)
    return name, latest.origin, format_count(len(of_machine), "run"), _date_of(latest)


def _date_of(record: Record) -> str:
    """When it was measured: the year of a reference result's source, not the day of its import."""
    source = record.manifest.source
    is_dated = record.origin == "imported" and source is not None and source.year is not None
    return str(source.year) if source is not None and is_dated else record.created_utc


def _run_row(record: Record, name: str, change: Change | None) -> Row:
    driver = record.fingerprint.software.gpu_kernel_driver
    verdict = change.comparison.verdict if change else None
    return (
        LinkedCell(text=name, link=_run_page(record)),
        record.manifest.title,
        _date_of(record),
        driver.value if isinstance(driver, Known) else None,
        cell(record.ended, "plain" if record.ended == "complete" else "bad"),
        LinkedCell(text=verdict, tone=TONES.get(verdict, "plain"), link=change.page) if change and verdict else None,
    )
