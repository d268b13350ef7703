"""The machines next to each other on one task, each at its best: GPU against CPU."""

from sdbench.report.chart_model import IntervalChart, IntervalMark
from sdbench.report.format import describe_useless_interval
from sdbench.report.model import Section
from sdbench.report.questions import is_for_buyers, main_experiments, name_image
from sdbench.report.series import Measured, Source
from sdbench.units import format_count, format_duration, round_significant

TITLE = "Machine against machine"
_DIGITS = 3
_ALONE = "One machine of this page made full-size images; the chart at its top has reference machines."


def build(source: Source) -> Section | str:
    """Return per pipeline each machine's shortest call (s) for the most demanding image that several made."""
    best_of: dict[str, list[Measured]] = {}
    for group in map(_best, main_experiments(filter(is_for_buyers, source.measured))):
        if len({point.machine.name for point in group}) > 1:
            best_of.setdefault(group[0].experiment.pipeline, group)
    if not best_of:
        return _ALONE
    return Section(charts=tuple(_chart(source, best) for best in best_of.values()))


def _chart(source: Source, best: list[Measured]) -> IntervalChart:
    experiment = best[0].experiment
    what = f"{name_image(experiment)}, {format_count(experiment.steps, 'step')}"
    fastest_s = min(point.estimate.value for point in best)
    marks = [
        IntervalMark(
            label=point.machine.name,
            machine=point.experiment.precision,
            text=f"{point.experiment.precision} {_words(point, fastest_s)}",
            is_open=point.is_open,
            **point.interval._asdict(),
        )
        for point in best
    ]
    caption = (
        f"One image at a time, {what}: each machine's shortest call at each precision, whatever the other options. "
        "Whiskers: its interval, where there are samples."
    )
    return source.chart("points", f"Seconds per image on each machine, {what}", caption, "seconds per image", marks)


def _best(group: list[Measured]) -> list[Measured]:
    """The shortest call of one image per machine and precision, the fastest machine first."""
    best: dict[tuple[str, str], Measured] = {}
    for measured in sorted(group, key=lambda point: point.estimate.value):
        if measured.batch == 1:
            best.setdefault((measured.machine.name, measured.experiment.precision), measured)
    order = list(dict.fromkeys(machine for machine, _ in best))
    return [best[key] for key in sorted(best, key=lambda key: (order.index(key[0]), key[1]))]


def _words(measured: Measured, fastest_s: float) -> str:
    ratio = measured.estimate.value / fastest_s
    times = "the fastest" if ratio == 1 else f"{round_significant(ratio, _DIGITS)} times the fastest"
    kind = f"{describe_useless_interval(measured.estimate)}, " if measured.is_open else ""
    return f"{format_duration(measured.estimate.value)} ({kind}{times})"
