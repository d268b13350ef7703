"""The one sentence that a page is about, and what belongs right below it."""

from collections.abc import Iterator
from dataclasses import dataclass

from sdbench.compare.projection import describe_projection
from sdbench.compare.references import is_half
from sdbench.compare.wording import count_states, format_change, format_interval, headline
from sdbench.report.answers import AS_FAST, IMAGE, Row, compare_times, own_rows, reference_rows
from sdbench.report.format import TONES, shorten_hashes
from sdbench.report.model import Tone
from sdbench.report.questions import TRY_OUT, is_for_buyers, main_experiments
from sdbench.report.series import Compared, Source
from sdbench.schema.experiment import STUDY_STEPS
from sdbench.schema.outcome import Skipped
from sdbench.units import format_count, format_duration

_VERBS = {
    "slower": "is slower than",
    "faster": "is faster than",
    "same": "takes as long as",
}


@dataclass(frozen=True)
class Headline:
    """A sentence with its tone, and the lines below it."""

    text: str
    tone: Tone
    lead: tuple[str, ...]


def make_headline(source: Source) -> Headline:
    """Return the sentence of a page: the change between two runs, else what one image takes, else what was measured."""
    if source.compared:
        return _change(source.compared[0])
    own = own_rows(source)
    if own:
        return Headline(_image(own[0]), "plain", tuple(_lead(source, own)))
    references = reference_rows(source)
    if references and not source.own:
        fastest = references[0]
        text = f"{fastest.name} is the fastest of {format_count(len(references), 'reference machine')}"
        if len(references) == 1:
            text = fastest.name
        return Headline(f"{text}: {format_duration(fastest.latency_s)} for one {IMAGE}", "plain", ())
    return _measured(source)


def _image(row: Row) -> str:
    """What one image takes on a machine: ``One 512x512 image ... takes about 28 m 10 s on AMD EPYC (projected)``."""
    duration = format_duration(row.latency_s)
    if row.role == "projected":
        return f"One {IMAGE}, takes about {duration} on {row.name} (projected)"
    return f"One {IMAGE}, takes {duration} on {row.name}"


def _lead(source: Source, own: list[Row]) -> Iterator[str]:
    row = own[0]
    every = reference_rows(source)
    if every:
        # A machine that published half precision only is no match for single precision.
        fastest, slowest = (
            next((other for other in every if is_half(other.experiment) == is_half(row.experiment)), every[0]),
            every[-1],
        )
        words = [_next_to(row, fastest)]
        if slowest is not fastest:
            words.append(_next_to(row, slowest))
        yield f"{row.precision}: {'; '.join(words)}."
    if row.role == "projected":
        steps = format_count(row.experiment.steps, "step")
        caveat = f"; {row.caveat}" if row.caveat else ""
        yield f"Projected from the phases of {steps}, not measured at {STUDY_STEPS}{caveat}."


def _next_to(own: Row, other: Row) -> str:
    duration = format_duration(other.latency_s)
    words = compare_times(own, other)
    joint = "as" if words == AS_FAST else "than"
    return f"{words} {joint} {other.name} ({duration}, {other.precision})"


def _measured(source: Source) -> Headline:
    groups = main_experiments(source.own or source.measured)
    if not groups:
        reason = "No experiment has a latency: see what was not measured, and why."
        return Headline("Nothing was measured", "bad", (reason,))
    first = min(groups[0], key=lambda point: point.experiment.batch)  # as in the terminal's summary
    where = f" on {first.machine.name}"
    whole = is_for_buyers(first)
    lead = describe_projection(first.planned, first.counted) if whole else f"{TRY_OUT} {_why_no_image(source)}"
    text = f"{first.label}: {format_duration(first.estimate.value)} a call{where}"
    return Headline(text, "plain", tuple(filter(None, (lead,))))


def _why_no_image(source: Source) -> str:
    """Why nothing here says what an image takes, and what to do."""
    skipped = next((point for point in source.points if is_for_buyers(point)), None)
    if skipped is None:
        return "To measure that: sdbench run quick."
    outcome = skipped.outcome
    reason = f": {outcome.reason}" if isinstance(outcome, Skipped) else ""
    return f"The experiment that says it was not measured: {skipped.label} ({skipped.status}{reason})."


def _change(compared: Compared) -> Headline:
    """The verdict on the first pair; both are named by what differs between them."""
    comparison = compared.comparison
    suite, verdict = comparison.suite, comparison.verdict
    tally, known = count_states(comparison), headline(comparison)
    mean = "" if suite.ratio is None else f"{format_change(suite.ratio)} [{format_interval(suite)}]"
    lead = [f"{format_count(len(comparison.experiments), 'experiment')}: {tally}."]
    if suite.verdict == verdict and verdict in _VERBS:
        text = f"{compared.candidate.name} {_VERBS[verdict]} {compared.baseline.name}: {mean}"
    elif known.startswith("LEANS "):
        leans, _, size = known.partition(": ")
        text = f"{compared.candidate.name} {leans.lower()} than {compared.baseline.name}: {size}"
    else:
        text = f"{compared.candidate.name} compared with {compared.baseline.name}: {tally}"
        lead = [f"On average {mean}."] if mean else []
    lead.append(f"What differs: {shorten_hashes(comparison.attribution)}.")
    return Headline(text, TONES.get(verdict, "plain"), (" ".join(lead),))
