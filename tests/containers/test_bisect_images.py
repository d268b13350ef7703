"""A bisection over images, with an engine that gives the runs that the test prescribes."""

from pathlib import Path

import pytest

from sdbench import exit_codes
from sdbench.compare.comparison import compare_runs
from sdbench.containers import bisect_images
from sdbench.containers.bisect_images import measure_images
from sdbench.containers.run_images import ImageRequest, ImageRuns
from sdbench.plan.make_plan import PlanRequest
from sdbench.runner.ab import ArmCannotRun
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record
from sdbench.store.bundle import encode_record
from sdbench.store.run import Run
from tests.compare.test_comparison import record_of
from tests.records import make_launch, make_result


class Engine:
    """Gives each schedule the next of its answers, and keeps what was asked."""

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


def runs_of(folder: Path, latency_s: float, launches: int = 8, noise: float = 0.003) -> ImageRuns:
    """Two runs whose launches alternate, the second of this latency (s) and the first of 1 s."""
    folders = []
    for place, own_s in enumerate((1.0, latency_s)):
        timed = tuple(
            make_launch(
                index, own_s * (1 + noise * (-1) ** index), started_utc=f"2026-01-01T00:{2 * index + place:02d}:00Z"
            )
            for index in range(launches)
        )
        record = record_of(make_result(Succeeded(launches=timed, stop_reason="converged")))
        folders.append(write(folder / str(place), record))
    return ImageRuns(tuple(folders), (), 0)


def verdict_of(runs: tuple[Run, Run]) -> str:
    return compare_runs(*runs, 0.02).verdict


def test_images_that_alternate_are_judged_by_their_launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, runs_of(tmp_path / "one", 1.1))
    assert verdict_of(engine.measure(tmp_path)) == "slower"
    ((request, where),) = engine.asked
    assert where.images == ("app:1", "app:2")
    assert request.settings == ()


def test_what_is_inconclusive_is_measured_once_more_with_the_launches_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = runs_of(tmp_path / "one", 1.05, noise=0.03), runs_of(tmp_path / "two", 1.05, launches=30)
    engine = Engine(monkeypatch, first, second)
    assert verdict_of(engine.measure(tmp_path)) == "slower"
    (_, one), (request, two) = engine.asked
    least, most = (setting.partition("=") for setting in request.settings)
    assert (least[0], most[0]) == ("protocol.launches_min", "protocol.launches_max")
    assert int(least[2]) > 8
    # Another id: what one left on a host is not continued as the other.
    assert one.schedule_id != two.schedule_id


def test_same_comparison_has_the_same_id_so_that_it_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(monkeypatch, runs_of(tmp_path / "one", 1.1), runs_of(tmp_path / "two", 1.1))
    for _ in range(2):
        engine.measure(tmp_path)
    assert len({where.schedule_id for _, where in engine.asked}) == 1


@pytest.mark.parametrize(
    ("problems", "arm", "reason"),
    [
        (("this host, app:2: exec format error",), "b", "exec format error"),
        (("this host, app:1: exec format error",), "a", "exec format error"),
        ((), "b", "it is the same image as app:1"),
    ],
)
def test_image_that_gives_no_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problems: tuple[str, ...], arm: str, reason: str
) -> None:
    engine = Engine(monkeypatch, ImageRuns((), problems, 0))
    with pytest.raises(ArmCannotRun, match=reason) as caught:
        engine.measure(tmp_path)
    assert caught.value.arm == arm


def test_interruption_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, ImageRuns((), (), exit_codes.INTERRUPTED))
    with pytest.raises(KeyboardInterrupt):
        engine.measure(tmp_path)
