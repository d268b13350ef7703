"""What the source claims, claim by claim, and what this report's runs say to it."""

from collections import Counter

from sdbench.compare.claims import Score, Verdict, claims_of, join_untested, score_own_claims
from sdbench.compare.words import format_expected, format_value
from sdbench.report.model import Cell, Link, Section, Table, Tone
from sdbench.report.points import Source
from sdbench.report.safe_text import find_link
from sdbench.report.text import NONE, cell, format_count, make_table

TITLE = "Do the source's claims hold here?"
_TONES: dict[Verdict, Tone] = {
    "reproduced": "good",
    "not reproduced": "bad",
    "inconclusive": "plain",
    "not tested": "muted",
}
_RULE = (
    "Reproduced: the measured interval lies wholly inside what is expected. Not reproduced: wholly outside. "
    "Inconclusive: partly inside, or no interval. A published figure has no samples and is never judged."
)


def build(source: Source) -> Section:
    """Return the scorecard, and what the manifest does otherwise than its source."""
    records = [machine.record for machine in source.machines]
    claims = claims_of(records)
    deviations = _deviations(source)
    if not claims:
        return Section(name="claims", title=TITLE, paragraphs=("The manifest makes no claims.",), tables=deviations)
    scores = score_own_claims(records)
    counts = Counter(score.verdict for score in scores)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _TONES if counts[verdict])
    columns = f"Claim|{'Machine|' * source.several}Verdict|#measured|#expected|Why|Source"
    table = make_table(
        f"{format_count(len(claims), 'claim')}: {summary}",
        columns,
        (_row(score, named=source.several) for score in join_untested(scores)),
    )
    links = _links(source)
    return Section(name="claims", title=TITLE, paragraphs=(_RULE,), links=links, tables=(table, *deviations))


def _links(source: Source) -> tuple[Link, ...]:
    """The sources of the manifests."""
    origins = dict.fromkeys(
        origin for machine in source.machines if (origin := machine.record.manifest.source) is not None
    )
    return tuple(
        Link(text=", ".join(str(part) for part in words if part), address=address)
        for origin in origins
        for address in [find_link(origin.url)]
        for words in [("Source: " + origin.title, origin.authors, origin.year, None if address else origin.url)]
    )


def _deviations(source: Source) -> tuple[Table, ...]:
    texts = dict.fromkeys(text for machine in source.machines for text in machine.record.manifest.deviations)
    if not texts:
        return ()
    return (make_table("Where the manifest does otherwise than its source", "Deviation", ((text,) for text in texts)),)


def _row(score: Score, *, named: bool) -> tuple[Cell | str, ...]:
    return (
        score.claim.text,
        *((score.machine,) if named else ()),
        cell(score.verdict, _TONES[score.verdict]),
        format_value(score) or NONE,
        format_expected(score.claim),
        score.why or NONE,
        score.claim.source,
    )
