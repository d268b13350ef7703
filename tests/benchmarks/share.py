"""Where the wall time of the full-size point went: how much of it inside measured pipeline calls."""

from pathlib import Path

from tests.benchmarks.bars import Bar

LIMIT = 0.6
ARCHITECTURE = "sd-1.4"
NAME = "full size: wall time inside pipeline calls"


def find_newest_record(results: Path) -> Path | None:
    """Return the newest record of quick.yaml under ``results``, or None."""
    # Run folders end in their UTC time, so their names sort by age.
    return max(results.glob("quick-*/record.json"), default=None, key=lambda path: path.parent.name)


def read_share(record_path: Path) -> list[Bar]:
    """Return the share with and without load time, and the split of the wall time, of a record's full-size launches."""
    from sdbench.schema.outcome import launches_of
    from sdbench.store.bundle import load_record

    launches = [
        launch
        for result in load_record(record_path).results
        if result.planned.experiment.pipeline == ARCHITECTURE
        for launch in launches_of(result.outcome)
    ]
    if not launches:
        return [Bar(NAME, f"no {ARCHITECTURE} launch in {record_path}")]
    wall_s = sum(launch.wall_s for launch in launches)
    import_s = sum(launch.import_s for launch in launches if launch.isolation == "spawn")
    load_s = sum(launch.load_s for launch in launches)
    series = [latency for launch in launches if (latency := launch.find_series("latency"))]
    latency_s, steady_s = sum(sum(each.samples) for each in series), sum(sum(each.steady) for each in series)
    unloaded_s = wall_s - import_s - load_s
    share = latency_s / unloaded_s
    parts = {
        "import": import_s,
        "load": load_s,
        "warm-up calls": latency_s - steady_s,
        "timed calls": steady_s,
        "rest (start, probes, verifying, exit)": unloaded_s - latency_s,
    }
    return [
        Bar(f"{NAME}, without load", f"{share:.1%} of {unloaded_s:.1f} s", f"at least {LIMIT:.0%}", share >= LIMIT),
        Bar(f"{NAME}, with load", f"{latency_s / wall_s:.1%} of {wall_s:.1f} s"),
        *(Bar(f"  {name}", f"{part_s:.2f} s, {part_s / wall_s:.1%}") for name, part_s in parts.items()),
    ]
