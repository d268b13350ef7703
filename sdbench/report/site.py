"""Many runs as a static site: an index, pages of runs, machines and comparisons, and an Atom feed of regressions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.trends import Trend, count_versions, find_trend, version_of
from sdbench.compare.verdicts import MARGIN
from sdbench.compare.wording import format_change, format_interval, headline
from sdbench.errors import UserError
from sdbench.report.limits import RUNS
from sdbench.report.model import Cell, LinkedRow, SiteView
from sdbench.report.points import Images, Telemetry, make_source
from sdbench.report.render import render_site, write_view
from sdbench.report.safe_text import clean
from sdbench.report.sections.trend import FIELDS
from sdbench.report.text import NONE, TONES, cell, format_count
from sdbench.report.view import build_view
from sdbench.schema.base import Known
from sdbench.schema.record import Record
from sdbench.store.files import write_whole

# A page holds all pairs of so many runs; of a machine with more the latest are shown.
RUNS_ON_A_MACHINES_PAGE = 6
_NAME_DIGITS = 16
_ATOM = "http://www.w3.org/2005/Atom"
_NO_TIME = "1970-01-01T00:00:00Z"
_TIME = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z")
MACHINES_PAGE = "comparisons/machines.html"
# What every index of a site holds.
_MARK = b'title="Regressions" href="feed.xml"'


@dataclass(frozen=True)
class Change:
    """What became of a machine from one run to the next."""

    before: Record
    after: Record
    comparison: Comparison


@dataclass(frozen=True)
class Regression:
    """Something that became slower, and the first run that shows it."""

    record: Record
    what: str
    title: str
    summary: str
    page: str


def write_site(
    records: Sequence[Record], folder: Path, telemetry: Telemetry | None = None, images: Images | None = None
) -> Path:
    """Write the site of records into ``folder`` and return its index. The same records give the same bytes.

    Args:
        records: in any order; files are named after their seals.
        folder: where the site goes; files of the same names are replaced, others left alone.
        telemetry: per run id, the telemetry of each launch: (experiment id, launch index, series).
        images: per run id and path within the bundle, the bytes of the images.

    Raises:
        UserError: there is no record, the same one twice, or the folder has an index of another kind.
        EnvironmentProblem: the ``report`` extra is not installed, or a file cannot be written.
    """
    index = folder / "index.html"
    if index.is_file() and _MARK not in index.read_bytes():
        raise UserError(f"{index} is there already and no site of sdbench; choose another folder")
    if not records:
        raise UserError("a site needs at least one record; name a folder of runs")
    ordered = sorted(records, key=lambda record: (record.created_utc, record.seal))
    pages: dict[str, Sequence[Record]] = {run_page(record): [record] for record in ordered}
    machines = _machines(ordered)
    for key, of_machine in machines.items():
        pages[f"machines/{key}.html"] = of_machine[-RUNS_ON_A_MACHINES_PAGE:]
    changes = {key: _changes(of_machine) for key, of_machine in machines.items()}
    for change in chain.from_iterable(changes.values()):
        pages[change_page(change)] = [change.before, change.after]
    if len(machines) > 1:
        pages[MACHINES_PAGE] = [of_machine[-1] for of_machine in machines.values()][-RUNS:]
    # One at a time: all views together would take a multiple of the records' memory.
    for name, shown in pages.items():
        write_view(build_view(shown, telemetry, images), folder / name, home="../index.html")
    regressions = [item for key, of_machine in machines.items() for item in find_regressions(of_machine, changes[key])]
    write_whole(folder / "feed.xml", make_feed(regressions))
    # Last, so that an index never names a page that is not there.
    write_whole(
        index,
        render_site(_index(ordered, machines, [*chain.from_iterable(changes.values())], len(regressions))).encode(),
    )
    return index


def run_page(record: Record) -> str:
    """Return a run's page within the site: named after its seal, because a run's id is what a stranger calls it."""
    return f"runs/{record.seal[:_NAME_DIGITS]}.html"


def change_page(change: Change) -> str:
    """Return the page that holds a run against the one before it."""
    return f"comparisons/{change.before.seal[:_NAME_DIGITS]}-{change.after.seal[:_NAME_DIGITS]}.html"


def find_regressions(of_machine: Sequence[Record], changes: Sequence[Change]) -> list[Regression]:
    """Return what became slower on one machine: from run to run, and over the versions of what people update."""
    found = [
        Regression(
            change.after,
            "run",
            f"{change.after.device_name}: {headline(change.comparison)}",
            f"What differs: {change.comparison.attribution}",
            change_page(change),
        )
        for change in changes
        if change.comparison.verdict == "slower"
    ]
    for field in FIELDS:
        if count_versions(of_machine, field) > 1:
            found += _slower_steps(find_trend(of_machine, field, MARGIN), field, of_machine)
    return found


def _slower_steps(trend: Trend, field: str, of_machine: Sequence[Record]) -> Iterator[Regression]:
    """One regression per version from which on experiments are slower."""
    steps: dict[str, list[str]] = {}
    for experiment in trend.experiments:
        for step in experiment.steps:
            if step.judgement.verdict == "slower" and step.judgement.ratio is not None:
                text = f"{experiment.label} {format_change(step.judgement.ratio)} [{format_interval(step.judgement)}]"
                steps.setdefault(step.first_version, []).append(text)
    for version, texts in steps.items():
        first = next(record for record in of_machine if version_of(record, field) == version)
        companions = f"; not only {trend.by} changed: {', '.join(trend.also)}" if trend.also else ""
        yield Regression(
            first,
            field,
            f"{trend.device_name}: {format_count(len(texts), 'experiment')} slower from {field} {version} on",
            "; ".join(texts) + companions,
            run_page(first),
        )


def make_feed(regressions: Sequence[Regression]) -> bytes:
    """Return an Atom feed (RFC 4287) of regressions, the latest first."""
    ET.register_namespace("", _ATOM)
    feed = ET.Element(f"{{{_ATOM}}}feed")
    ordered = sorted(regressions, key=lambda item: (item.record.created_utc, item.record.seal, item.what), reverse=True)
    # The same over the life of a site: it is that of its first regression.
    first = ordered[-1].record.seal if ordered else "none"
    _add(feed, "id", f"urn:sdbench:regressions:sha256:{first}")
    _add(feed, "title", "sdbench: regressions")
    _add(feed, "updated", _time_of(ordered[0].record) if ordered else _NO_TIME)
    author = ET.SubElement(feed, f"{{{_ATOM}}}author")
    _add(author, "name", "sdbench")
    for item in ordered:
        entry = ET.SubElement(feed, f"{{{_ATOM}}}entry")
        _add(entry, "id", f"urn:sdbench:{item.what}:sha256:{item.record.seal}")
        _add(entry, "title", item.title)
        _add(entry, "updated", _time_of(item.record))
        _add(entry, "summary", item.summary)
        ET.SubElement(entry, f"{{{_ATOM}}}link", {"href": item.page})
    ET.indent(feed)
    content: bytes = ET.tostring(feed, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _time_of(record: Record) -> str:
    """A record's time as RFC 3339 asks for it; a stranger's record may have anything there."""
    return record.created_utc if _TIME.fullmatch(record.created_utc) else _NO_TIME


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, f"{{{_ATOM}}}{name}").text = clean(text)


def _machines(ordered: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs by what must be alike for them to follow each other: origin, machine, device."""
    found: dict[str, list[Record]] = {}
    for record in ordered:
        # cpu or cuda:0, but a stranger's record may say anything.
        device = re.sub("[^a-z0-9]", "", record.device)[:_NAME_DIGITS]
        key = f"{record.fingerprint.hardware_sha256[:_NAME_DIGITS]}-{device}-{record.origin}"
        found.setdefault(key, []).append(record)
    return found


def _changes(of_machine: Sequence[Record]) -> list[Change]:
    return [
        Change(before, after, compare_records([before], [after], MARGIN, known=of_machine))
        for before, after in pairwise(of_machine)
        # What others published has no samples to compare.
        if after.origin != "imported"
    ]


def _index(
    ordered: Sequence[Record],
    machines: Mapping[str, Sequence[Record]],
    changes: Sequence[Change],
    regression_count: int,
) -> SiteView:
    names = dict(zip((record.seal for record in ordered), make_source(ordered, None, None).machine_names, strict=True))
    found = {change.after.seal: change for change in changes}
    runs = tuple(
        LinkedRow(
            link=run_page(record),
            last_link=change_page(found[record.seal]) if record.seal in found else None,
            cells=(
                cell(names[record.seal], "plain"),
                cell(record.manifest.title, "plain"),
                cell(record.created_utc, "plain"),
                cell(_driver(record), "plain"),
                cell(record.ended, "plain" if record.ended == "complete" else "bad"),
                _verdict(found.get(record.seal)),
            ),
        )
        for record in reversed(ordered)
    )
    rows = tuple(
        LinkedRow(
            link=f"machines/{key}.html",
            cells=(
                cell(of_machine[-1].device_name, "plain"),
                cell(of_machine[-1].origin, "plain"),
                cell(format_count(len(of_machine), "run"), "plain"),
                cell(of_machine[-1].created_utc, "plain"),
            ),
        )
        for key, of_machine in machines.items()
    )
    return SiteView(
        title="sdbench results",
        subtitle=f"{format_count(len(ordered), 'run')} of {format_count(len(machines), 'machine')}; "
        f"{format_count(regression_count, 'regression')}",
        comparison=MACHINES_PAGE if len(machines) > 1 else None,
        machine_columns=("Machine", "Origin", "Runs", "Latest"),
        machines=rows,
        run_columns=("Run of", "Manifest", "Measured", "Driver", "Ended", "Against the run before"),
        runs=runs,
    )


def _driver(record: Record) -> str:
    driver = record.fingerprint.software.gpu_kernel_driver
    return driver.value if isinstance(driver, Known) else NONE


def _verdict(change: Change | None) -> Cell:
    if change is None:
        return cell(NONE, "muted")
    verdict = change.comparison.verdict
    return cell(verdict, TONES.get(verdict, "plain"))
