"""The machines beside each other on one task, each at its best: GPU against CPU."""

from sdbench.report.chart_model import IntervalChart, IntervalMark
from sdbench.report.model import Section
from sdbench.report.points import Measured, Source
from sdbench.report.sections.summary import main_experiments
from sdbench.units import format_duration, round_significant

TITLE = "Machine against machine"
_DIGITS = 3
_ALONE = "One machine is on this page. Name the records of others, or published ones, to see them side by side."


def build(source: Source) -> Section:
    """Return each machine's shortest call (s) for the most demanding image that several made, per precision."""
    task = next((group for group in main_experiments(source.measured) if _machine_count(group) > 1), None)
    if task is None:
        return Section(name="devices", title=TITLE, paragraphs=(_ALONE,))
    best = _best(task)
    fastest = min(m.estimate.value for m in best)
    experiment = best[0].point.experiment
    what = f"{experiment.width}x{experiment.height}, {experiment.steps} steps, {experiment.architecture}"
    chart = IntervalChart(
        kind="points",
        alt=f"Seconds per image on each machine, {what}: "
        + "; ".join(f"{m.point.machine.name} {m.point.experiment.precision} {_words(m, fastest)}" for m in best),
        caption=f"One image at a time, {what}: each machine's shortest call at each precision, whatever else was "
        "asked for. Whiskers: its interval, where there are samples. GPUs and CPUs differ too much for a linear scale.",
        axis="seconds per image, log scale",
        log_scale=True,
        machines=tuple(dict.fromkeys(m.point.experiment.precision for m in best)),
        marks=tuple(
            IntervalMark(
                label=m.point.machine.name,
                machine=m.point.experiment.precision,
                value=m.estimate.value,
                low=m.estimate.low,
                high=m.estimate.high,
                text=_words(m, fastest),
            )
            for m in best
        ),
    )
    return Section(name="devices", title=TITLE, charts=(chart,))


def _machine_count(group: list[Measured]) -> int:
    return len({m.point.machine.name for m in group if m.point.batch == 1})


def _best(group: list[Measured]) -> list[Measured]:
    """The shortest call of one image per machine and precision, the fastest machine first."""
    found: dict[tuple[str, str], Measured] = {}
    for measured in sorted(group, key=lambda m: m.estimate.value):
        if measured.point.batch == 1:
            found.setdefault((measured.point.machine.name, measured.point.experiment.precision), measured)
    order = list(dict.fromkeys(machine for machine, _ in found))
    return sorted(found.values(), key=lambda m: (order.index(m.point.machine.name), m.point.experiment.precision))


def _words(measured: Measured, fastest: float) -> str:
    ratio = measured.estimate.value / fastest
    times = "the fastest" if ratio == 1 else f"{round_significant(ratio, _DIGITS)} times the fastest"
    kind = "" if measured.point.is_published or measured.estimate.low is not None else "one launch, "
    return f"{format_duration(measured.estimate.value)} ({kind}{times})"
