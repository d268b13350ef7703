"""What the source claims, claim by claim, with the verdict from this report's runs."""

from collections import Counter
from collections.abc import Sequence

from sdbench.compare.claims import Score, Verdict, claims_of, join_untested, score_own_claims
from sdbench.compare.wording import format_expected, format_value
from sdbench.report.escape import find_link
from sdbench.report.format import Row, cell, make_table, numbers, texts
from sdbench.report.model import Link, Section, Tone
from sdbench.report.series import Source
from sdbench.schema.manifest import Claim
from sdbench.schema.manifest import Source as Origin
from sdbench.units import format_count

TITLE = "Do the source's claims hold here?"
# A claim that some machine does not reproduce is not reproduced.
_BY_WEIGHT: tuple[Verdict, ...] = ("not reproduced", "inconclusive", "reproduced", "not tested")
_TONES: dict[Verdict, Tone] = {
    "reproduced": "good",
    "not reproduced": "bad",
    "inconclusive": "plain",
    "not tested": "muted",
}
_RULE = (
    "Reproduced: the measured interval lies wholly inside what is expected. Not reproduced: wholly outside. "
    "Inconclusive: partly inside, or no interval. A reference result has no samples and gets no verdict."
)


def build(source: Source) -> Section:
    """Return the scorecard, and where the manifest deviates from its source."""
    records = [machine.record for machine in source.machines]
    claims = claims_of(records)
    deviations = dict.fromkeys(text for record in records for text in record.manifest.deviations)
    rows = ((text,) for text in deviations)
    tables = [make_table("Where the manifest deviates from its source", texts("Deviation"), rows)] if deviations else []
    if not claims:
        return Section(paragraphs=("The manifest makes no claims.",), tables=tuple(tables))
    scores = score_own_claims(records)
    machine = texts("Machine") if source.several else ()
    columns = (*texts("Claim"), *machine, *texts("Verdict"), *numbers("measured", "expected"), *texts("Why", "Source"))
    scored = make_table(
        _caption(source, claims, scores),
        columns,
        (_row(score, named=source.several) for score in join_untested(scores)),
    )
    origins = dict.fromkeys(origin for record in records if (origin := record.manifest.source) is not None)
    return Section(paragraphs=(_RULE,), links=tuple(map(_link, origins)), tables=(scored, *tables))


def _caption(source: Source, claims: Sequence[Claim], scores: Sequence[Score]) -> str:
    """How many claims have which verdict, each by the first that it has anywhere; why, where none was tested."""
    verdicts = {claim.id: {score.verdict for score in scores if score.claim.id == claim.id} for claim in claims}
    counts = Counter(
        next(verdict for verdict in _BY_WEIGHT if verdict in kinds) for kinds in verdicts.values() if kinds
    )
    if set(counts) <= {"not tested"}:
        subject = "The claim could not" if len(claims) == 1 else f"None of the {len(claims)} claims could"
        return f"{subject} be tested: {_why_untested(source, claims, scores)}"
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _TONES if counts[verdict])
    return f"{format_count(len(claims), 'claim')}: {summary}"


def _why_untested(source: Source, claims: Sequence[Claim], scores: Sequence[Score]) -> str:
    """The option that most claims need and no run here has, else the most frequent reason."""
    missing = Counter(
        f"{value} steps" if name == "steps" else f"{name.replace('_', ' ')} {value}"
        for claim in claims
        for name, value in claim.numerator.options.values.items()
        if not any(point.experiment.has({name: value}) for point in source.points)
    )
    if missing:
        return f"no run here has {missing.most_common(1)[0][0]}"
    return Counter(score.why for score in scores).most_common(1)[0][0]


def _link(origin: Origin) -> Link:
    address = find_link(origin.url)
    parts = ("Source: " + origin.title, origin.authors, origin.year, None if address else origin.url)
    return Link(text=", ".join(str(part) for part in parts if part), address=address)


def _row(score: Score, *, named: bool) -> Row:
    return (
        score.claim.text,
        *((score.machine,) if named else ()),
        cell(score.verdict, _TONES[score.verdict]),
        format_value(score) or None,
        format_expected(score.claim),
        score.why or None,
        score.claim.source,
    )
