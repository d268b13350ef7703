"""A bisection over images, with an engine that gives the runs that the test prescribes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sdbench.containers import bisect_images
from sdbench.containers.bisect_images import measure_images
from sdbench.containers.run_images import ImageRequest, ImageRuns
from sdbench.plan.make_plan import PlanRequest
from sdbench.schema.record import Record
from sdbench.store.bundle import encode_record
from sdbench.store.run import Run
from tests.compare.test_comparison import run_of

Answer = Callable[[PlanRequest, ImageRequest], ImageRuns]


class Engine:
    """Answers each schedule in turn, and keeps what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: ImageRuns) -> None:
        self.asked: list[tuple[PlanRequest, ImageRequest]] = []
        remaining = iter(answers)

        def run_images(request: PlanRequest, where: ImageRequest, *_: object) -> ImageRuns:
            self.asked.append((request, where))
            return next(remaining)

        monkeypatch.setattr(bisect_images, "run_images", run_images)

    def measure(self, tmp_path: Path) -> tuple[Run, Run]:
        return measure_images(PlanRequest("quick"), ("app:1", "app:2"), "", tmp_path, 0.02, lambda _text: None)


def write(folder: Path, record: Record) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(encode_record(record.to_json_dict()))
    return folder


def runs_of(folder: Path, *latencies_s: float) -> ImageRuns:
    records = [run_of(latency_s, day=1, interleaved=place) for place, latency_s in enumerate(latencies_s)]
    return ImageRuns(tuple(write(folder / str(place), record) for place, record in enumerate(records)), (), 0)
