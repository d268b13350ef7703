"""Many runs as a static site: an index, a page per run and per machine, and an Atom feed of regressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from sdbench.compare.comparison import Comparison, compare_records
from sdbench.compare.verdicts import MARGIN
from sdbench.compare.wording import headline
from sdbench.errors import UserError
from sdbench.report.model import Cell, LinkedRow, SiteView
from sdbench.report.points import Images, Telemetry, make_source
from sdbench.report.render import render_report, render_site
from sdbench.report.safe_text import clean
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
    write_whole(folder / "feed.xml", make_feed(changes))
    # Last, so that an index never names a page that is not there.
    index = folder / "index.html"
    write_whole(index, render_site(_index(ordered, machines, changes)).encode())
    return index


def run_page(record: Record) -> str:
    """Return a run's page within the site: named after its seal, because a run's id is what a stranger calls it."""
    return f"runs/{record.seal[:_NAME_DIGITS]}.html"


def make_feed(changes: Sequence[Change]) -> bytes:
    """Return an Atom feed (RFC 4287) of the changes that made something slower, the latest first."""
    ET.register_namespace("", _ATOM)
    feed = ET.Element(f"{{{_ATOM}}}feed")
    slower = [change for change in changes if change.comparison.verdict == "slower"]
    slower.sort(key=lambda change: (change.after.created_utc, change.after.seal), reverse=True)
    _add(feed, "id", "urn:sdbench:regressions")
    _add(feed, "title", "sdbench: regressions")
    _add(feed, "updated", slower[0].after.created_utc if slower else _NO_TIME)
    author = ET.SubElement(feed, f"{{{_ATOM}}}author")
    _add(author, "name", "sdbench")
    for change in slower:
        entry = ET.SubElement(feed, f"{{{_ATOM}}}entry")
        _add(entry, "id", f"urn:sha256:{change.after.seal}")
        _add(entry, "title", f"{change.after.device_name}: {headline(change.comparison)}")
        _add(entry, "updated", change.after.created_utc)
        _add(entry, "summary", f"What differs: {change.comparison.attribution}")
        ET.SubElement(entry, f"{{{_ATOM}}}link", {"href": run_page(change.after)})
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


def _index(ordered: Sequence[Record], machines: Mapping[str, Sequence[Record]], changes: Sequence[Change]) -> SiteView:
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
    slower = sum(change.comparison.verdict == "slower" for change in changes)
    return SiteView(
        title="sdbench results",
        subtitle=f"{format_count(len(ordered), 'run')} of {format_count(len(machines), 'machine')}; "
        f"{format_count(slower, 'regression')} from one run to the next",
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
