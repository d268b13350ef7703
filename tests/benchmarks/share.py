"""Where the wall time of the full-size point went: how much of it inside measured pipeline calls."""

from pathlib import Path

from tests.benchmarks.figures import Figure

LIMIT = 0.6
ARCHITECTURE = "sd-v1-4"
NAME = "full size: wall time inside pipeline calls"


def find_newest_record(results: Path) -> Path | None:
    """Return the newest record of quick.yaml under ``results``, or None."""
    # Run folders end in their UTC time, so their names sort by age.
    return max(results.glob("quick-*/record.json"), default=None, key=lambda path: path.parent.name)


def read_share(record_path: Path) -> list[Figure]:
    """Return the share with and without load time, and the split of the wall time, of a record's full-size launches."""
    from sdbench.schema.outcome import Launch, launches_of
    from sdbench.store.bundle import load_record

    def total(launch: Launch, name: str) -> float:
        series = launch.find_series(name)
        return sum(series.samples) if series else 0.0

    launches = [
        launch
        for result in load_record(record_path).results
        if result.planned.experiment.architecture == ARCHITECTURE
        for launch in launches_of(result.outcome)
    ]
    if not launches:
        return [Figure(NAME, f"no {ARCHITECTURE} launch in {record_path}")]
    wall_s = sum(launch.wall_s for launch in launches)
    import_s = sum(launch.import_s for launch in launches)
    load_s = sum(launch.load_s for launch in launches)
    latency_s = sum(total(launch, "latency") for launch in launches)
    steady_s = sum(sum(series.steady) for launch in launches if (series := launch.find_series("latency")))
    phases_s = sum(total(launch, "phase.total") for launch in launches)
    calls_s = latency_s + phases_s
    unloaded_s = wall_s - import_s - load_s
    share = calls_s / unloaded_s
    parts = {
        "import": import_s,
        "load": load_s,
        "warm-up calls": latency_s - steady_s,
        "timed calls": steady_s,
        "phase calls": phases_s,
        "rest (start, probes, verifying, exit)": unloaded_s - calls_s,
    }
    return [
        Figure(f"{NAME}, without load", f"{share:.1%} of {unloaded_s:.1f} s", f"at least {LIMIT:.0%}", share >= LIMIT),
        Figure(f"{NAME}, with load", f"{calls_s / wall_s:.1%} of {wall_s:.1f} s"),
        *(Figure(f"  {name}", f"{part_s:.2f} s, {part_s / wall_s:.1%}") for name, part_s in parts.items()),
    ]
