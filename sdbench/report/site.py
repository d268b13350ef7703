"""Many runs as a static site: an index, a page per run and per machine, and an Atom feed of regressions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.trends import Trend, count_versions, find_trend, version_of
from sdbench.compare.verdicts import MARGIN
from sdbench.compare.wording import format_change, format_interval, headline
from sdbench.errors import UserError
from sdbench.report.model import Cell, LinkedRow, SiteView
from sdbench.report.points import Images, Telemetry, make_source
from sdbench.report.render import render_report, render_site
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
        UserError: there is no record, or the same one twice.
        EnvironmentProblem: the ``report`` extra is not installed, or a file cannot be written.
    """
    if not records:
        raise UserError("a site needs at least one record; name a folder of runs")
    ordered = sorted(records, key=lambda record: (record.created_utc, record.seal))
    pages = {run_page(record): build_view([record], telemetry, images) for record in ordered}
    machines = _machines(ordered)
    for key, of_machine in machines.items():
        pages[f"machines/{key}.html"] = build_view(of_machine[-RUNS_ON_A_MACHINES_PAGE:], telemetry, images)
    changes = [change for of_machine in machines.values() for change in _changes(of_machine)]
    for name, view in pages.items():
        write_whole(folder / name, render_report(view).encode())
    regressions = [item for of_machine in machines.values() for item in find_regressions(of_machine)]
    write_whole(folder / "feed.xml", make_feed(regressions))
    # Last, so that an index never names a page that is not there.
    index = folder / "index.html"
    write_whole(index, render_site(_index(ordered, machines, changes, len(regressions))).encode())
    return index


def run_page(record: Record) -> str:
    """Return a run's page within the site: named after its seal, because a run's id is what a stranger calls it."""
    return f"runs/{record.seal[:_NAME_DIGITS]}.html"


def find_regressions(of_machine: Sequence[Record]) -> list[Regression]:
    """Return what became slower on one machine: from run to run, and over the versions of what people update."""
    found = [
        Regression(
            change.after,
            "run",
            f"{change.after.device_name}: {headline(change.comparison)}",
            f"What differs: {change.comparison.attribution}",
        )
        for change in _changes(of_machine)
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
        )


def make_feed(regressions: Sequence[Regression]) -> bytes:
    """Return an Atom feed (RFC 4287) of regressions, the latest first."""
    ET.register_namespace("", _ATOM)
    feed = ET.Element(f"{{{_ATOM}}}feed")
    ordered = sorted(regressions, key=lambda item: (item.record.created_utc, item.record.seal, item.what), reverse=True)
    _add(feed, "id", "urn:sdbench:regressions")
    _add(feed, "title", "sdbench: regressions")
    _add(feed, "updated", ordered[0].record.created_utc if ordered else _NO_TIME)
    author = ET.SubElement(feed, f"{{{_ATOM}}}author")
    _add(author, "name", "sdbench")
    for item in ordered:
        entry = ET.SubElement(feed, f"{{{_ATOM}}}entry")
        _add(entry, "id", f"urn:sdbench:{item.what}:sha256:{item.record.seal}")
        _add(entry, "title", item.title)
        _add(entry, "updated", item.record.created_utc)
        _add(entry, "summary", item.summary)
        ET.SubElement(entry, f"{{{_ATOM}}}link", {"href": run_page(item.record)})
    ET.indent(feed)
    content: bytes = ET.tostring(feed, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, f"{{{_ATOM}}}{name}").text = clean(text)


def _machines(ordered: Sequence[Record]) -> dict[str, list[Record]]:
    """The measured runs by what must be alike for them to follow each other: origin, machine, device."""
    found: dict[str, list[Record]] = {}
    for record in ordered:
        if record.origin != "imported":
            device = "".join(char for char in record.device if char.isalnum())
            key = f"{record.fingerprint.hardware_sha256[:_NAME_DIGITS]}-{device}-{record.origin}"
            found.setdefault(key, []).append(record)
    return found


def _changes(of_machine: Sequence[Record]) -> list[Change]:
    return [
        Change(before, after, compare_records([before], [after], MARGIN, known=of_machine))
        for before, after in pairwise(of_machine)
    ]


def _index(
    ordered: Sequence[Record],
    machines: Mapping[str, Sequence[Record]],
    changes: Sequence[Change],
    regression_count: int,
) -> SiteView:
    names = dict(zip((record.seal for record in ordered), make_source(ordered, None, None).machine_names, strict=True))
    verdicts = {change.after.seal: change.comparison for change in changes}
    runs = tuple(
        LinkedRow(
            link=run_page(record),
            cells=(
                cell(names[record.seal], "plain"),
                cell(record.manifest.title, "plain"),
                cell(record.created_utc, "plain"),
                cell(_driver(record), "plain"),
                cell(record.ended, "plain" if record.ended == "complete" else "bad"),
                _verdict(verdicts.get(record.seal)),
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
        machine_columns=("Machine", "Origin", "Runs", "Latest"),
        machines=rows,
        run_columns=("Run of", "Manifest", "Measured", "Driver", "Ended", "Against the run before"),
        runs=runs,
    )


def _driver(record: Record) -> str:
    driver = record.fingerprint.software.gpu_kernel_driver
    return driver.value if isinstance(driver, Known) else NONE


def _verdict(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return cell(NONE, "muted")
    return cell(comparison.verdict, TONES.get(comparison.verdict, "plain"))
