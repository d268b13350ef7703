"""The latency of every measured experiment, with its interval."""

from sdbench.report.chart_model import IntervalChart, IntervalMark
from sdbench.report.model import Section
from sdbench.report.points import Measured, Source, needs_log_scale
from sdbench.report.text import format_count, format_estimate, format_percent
from sdbench.stats.intervals import Estimate
from sdbench.units import format_duration

TITLE = "How long does a call take?"
# An interval on logs is not symmetric: at 10 % its sides are 9 and 10 %, beyond that ± would mislead.
MAX_SYMMETRIC_HALF_WIDTH = 0.1


def build(source: Source) -> Section:
    """Return the latency chart (s), and which experiments have no interval."""
    measured = source.measured
    if not measured:
        return Section(
            name="latency", title=TITLE, paragraphs=("No experiment was measured, so there is no latency to show.",)
        )
    log_scale = needs_log_scale([end for m in measured for end in _ends(m)])
    chart = IntervalChart(
        kind="points",
        alt="Latency per call: " + "; ".join(_sentence(source, m) for m in measured),
        caption=_caption(measured, log_scale=log_scale),
        axis="seconds per call, log scale" if log_scale else "seconds per call",
        log_scale=log_scale,
        machines=source.machine_names,
        marks=tuple(_mark(source, m) for m in measured),
    )
    return Section(name="latency", title=TITLE, paragraphs=_without_interval(measured), charts=(chart,))


def _mark(source: Source, measured: Measured) -> IntervalMark:
    estimate = measured.estimate
    words = [format_duration(estimate.value)]
    if measured.point.is_published:
        words += [] if source.several else ["(published)"]
    elif estimate.low is None:
        words.append("(one launch)")
    else:
        words.append(_interval_words(estimate))
    if source.several:
        words.append(measured.point.machine.name)
    return IntervalMark(
        label=measured.point.label,
        machine=measured.point.machine.name,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        text=" ".join(words),
    )


def _interval_words(estimate: Estimate) -> str:
    """The interval as ± percent; as its ends where it is so wide that the two sides differ."""
    half_width = estimate.relative_half_width or 0.0
    if half_width <= MAX_SYMMETRIC_HALF_WIDTH or estimate.low is None or estimate.high is None:
        return f"± {format_percent(half_width)}"
    return f"[{format_duration(estimate.low)}, {format_duration(estimate.high)}]"


def _ends(measured: Measured) -> tuple[float, ...]:
    ends = (measured.estimate.low, measured.estimate.value, measured.estimate.high)
    return tuple(end for end in ends if end is not None)


def _sentence(source: Source, measured: Measured) -> str:
    on = f" on {measured.point.machine.name}" if source.several else ""
    return f"{measured.point.label}{on} {format_estimate(measured.estimate)}"


def _caption(measured: tuple[Measured, ...], *, log_scale: bool) -> str:
    own = [m for m in measured if not m.point.is_published]
    confidences = sorted({m.point.planned.protocol.confidence for m in own})
    levels = " or ".join(format_percent(confidence) for confidence in confidences)
    scale = " Log scale: the largest value is over 20 times the smallest." if log_scale else ""
    words = "Prompt to images, from the stock pipeline."
    if own:
        words += " Point: geometric mean of the launches' medians. "
        words += f"Whiskers: {levels} interval (Student's t on the logs of the launches' medians)."
    return words + scale


def _without_interval(measured: tuple[Measured, ...]) -> tuple[str, ...]:
    published_count = sum(m.point.is_published for m in measured)
    lone_count = sum(m.estimate.low is None for m in measured) - published_count
    sentences = []
    if lone_count:
        sentences.append(
            f"{format_count(lone_count, 'experiment')} ran in one launch only: a point without an interval. "
            "How much it would vary from one process to the next is not known."
        )
    if published_count:
        sentences.append(
            f"{format_count(published_count, 'figure')} of others as they were published: one number each, no samples, "
            "so there is no interval."
        )
    return tuple(sentences)
