from pathlib import Path
from typing import Any

import pytest

from sdbench.compare.data_sheets import find_data_sheet
from sdbench.compare.projection import PhaseTimes, phases_of_launch
from sdbench.compare.roofline import DECODE, DENOISER, TEXT, WHOLE, Roofline, make_roofline
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import ReferenceResult
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record
from tests.fingerprints import make_ceilings, make_fingerprint
from tests.records import make_environment, make_launch, make_planned, make_record, make_work

REFERENCES = Path(__file__).parents[2] / "reports" / "reference"


def record_with(device: str = "cpu", **ceilings: Any) -> Record:
    known = Known(value=make_ceilings(device, **ceilings))
    fingerprint = make_fingerprint(device)
    state = fingerprint.state.model_copy(update={"ceilings": known})
    return make_record(
        device=device, fingerprint=fingerprint.model_copy(update={"state": state}), ceilings_at_end=known
    )


def roofline_of(record: Record, latency_s: float = 0.01, **options: Any) -> Roofline:
    launch = make_launch(device=record.device, **options)
    made = make_roofline(record, make_planned(), 1, latency_s, launch, phases_of_launch(launch))
    assert made is not None
    return made


def wall_of(record: Record, latency_s: float = 0.01, **options: Any) -> tuple[str, str]:
    wall = roofline_of(record, latency_s, **options).points[0].wall
    return wall.name, wall.reason


def environment_with(**work: Any) -> Any:
    return make_environment("cpu", work=make_work(**work))


def test_phases_are_scaled_to_a_timed_call_and_their_work_adds_up() -> None:
    whole, *phases = roofline_of(record_with(), latency_s=0.5).points

    assert [point.part for point in (whole, *phases)] == [WHOLE, TEXT, DENOISER, DECODE]
    assert sum(point.flop for point in phases) == pytest.approx(whole.flop)
    # The rest of a call, 3 % of it, has no network.
    assert sum(point.duration_s for point in phases) == pytest.approx(0.97 * 0.5, rel=0.01)


def test_whole_batch_is_counted_but_its_weights_are_read_once() -> None:
    launch = make_launch()
    work = launch.environment.work
    made = make_roofline(record_with(), make_planned(batch=4), 4, 1.0, launch, None)
    assert made is not None

    (whole,) = made.points
    assert whole.flop == 4 * work.flop
    activations = sum(work.activation_bytes_per_image.values())
    assert whole.traffic_bytes == sum(work.weight_bytes.values()) + 4 * activations


def test_near_wall_is_what_alone_takes_most_of_the_time() -> None:
    work = make_launch().environment.work
    compute_s = work.flop / 4e11
    fast_memory = record_with(memory_bytes_per_s=Known(value=1e13))
    assert wall_of(fast_memory, 1.25 * compute_s) == (
        "compute",
        "its FLOP at the fastest matrix product take 80% of the time",
    )
    slow_memory = record_with(memory_bytes_per_s=Known(value=1e9))
    assert wall_of(slow_memory, 0.2)[0] == "memory"
    slow_launches = record_with(launch_s=Known(value=1e-4))
    assert wall_of(slow_launches, 0.3) == ("launch", "launching its 2,144 operators takes 71% of the time")


def test_no_wall_is_near_where_each_takes_less_than_half_of_the_time() -> None:
    name, reason = wall_of(record_with(), 1.0)

    assert name == "none"
    assert reason.startswith("the largest is ")


def test_gpu_that_waits_for_python_is_at_the_wall_of_the_host() -> None:
    points = {
        point.part: point.wall.name
        for point in roofline_of(record_with("cuda:0"), host_bound_ratio=Known(value=0.9)).points
    }

    assert points[WHOLE] == points[DENOISER] == "host"
    assert points[DECODE] != "host"


def test_ceilings_of_other_threads_are_no_limit() -> None:
    name, reason = wall_of(record_with(threads=1))

    assert (name, reason) == ("unknown", "the ceilings are of 1 threads, and it ran with 2")


def test_ceilings_that_were_not_measured_leave_the_shares_open() -> None:
    record = make_record()
    state = record.fingerprint.state.model_copy(update={"ceilings": Unknown(reason="it died")})
    fingerprint = record.fingerprint.model_copy(update={"state": state})
    unknown = record.model_copy(update={"fingerprint": fingerprint, "ceilings_at_end": Unknown(reason="too")})

    point = roofline_of(unknown).points[0]
    assert point.ceiling_ratio is None
    assert point.wall.reason == "it died"


def test_call_whose_work_is_unknown_has_no_roofline() -> None:
    launch = make_launch(environment=environment_with(flop_per_image={}))

    assert make_roofline(record_with(), make_planned(), 1, 1.0, launch, None) is None


def test_phases_of_no_duration_are_left_out() -> None:
    none = PhaseTimes({}, 0.0, 0.0, 0.0, 0.0, 0.0)
    made = make_roofline(record_with(), make_planned(), 1, 1.0, make_launch(), none)

    assert made is not None
    assert [point.part for point in made.points] == [WHOLE]


def test_a100_of_the_study_reaches_7_percent_of_its_data_sheet() -> None:
    record = load_record(REFERENCES / "lambda-2022-nvidia-a100-80gb-pcie")
    (result,) = (
        item
        for item in record.results
        if item.planned.experiment.batch == 1
        and item.planned.experiment.autocast == "fp16"
        and isinstance(item.outcome, ReferenceResult)
    )
    assert isinstance(result.outcome, ReferenceResult)
    made = make_roofline(record, result.planned, 1, result.outcome.latency_s, None, None)
    assert made is not None
    assert made.data_sheet is not None

    assert made.data_sheet.source == "NVIDIA A100 data sheet"
    (whole,) = made.points
    assert whole.flop == pytest.approx(84.5e12, rel=0.01)
    assert whole.data_sheet_ratio is not None
    assert 0.06 < whole.data_sheet_ratio < 0.08
    assert whole.wall.reason == "a reference result has no ceilings"


@pytest.mark.parametrize(
    ("name", "fp16_flop_per_s", "memory_bytes_per_s"),
    [
        ("NVIDIA A100 80GB PCIe", 312e12, 1935e9),
        ("NVIDIA A100-SXM4-80GB", 312e12, 2039e9),
        ("NVIDIA H100 80GB HBM3", 989.5e12, 3350e9),
        ("NVIDIA GeForce RTX 3080", 59.5e12, 760e9),
        ("Tesla V100-SXM2-16GB", 125e12, 900e9),
        ("Quadro RTX 8000", 130.5e12, 672e9),
    ],
)
def test_device_is_found_by_the_name_that_its_driver_gives(
    name: str, fp16_flop_per_s: float, memory_bytes_per_s: float
) -> None:
    sheet = find_data_sheet(name)

    assert sheet is not None
    assert sheet.flop_per_s("fp16") == pytest.approx(fp16_flop_per_s)
    assert sheet.memory_bytes_per_s == memory_bytes_per_s


@pytest.mark.parametrize(
    "name",
    ["NVIDIA GeForce RTX 3080 Ti", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A10G", "NVIDIA A100-SXM4-80GB MIG 1g"],
)
def test_variant_of_a_device_is_another_device(name: str) -> None:
    assert find_data_sheet(name) is None


def test_card_without_bf16_has_no_peak_for_it_and_computes_tf32_in_fp32() -> None:
    sheet = find_data_sheet("Tesla T4")

    assert sheet is not None
    assert sheet.flop_per_s("bf16") is None
    assert sheet.flop_per_s("tf32") == sheet.flop_per_s("fp32")


def test_every_device_of_the_study_but_its_cpus_has_a_data_sheet() -> None:
    records = [load_record(folder) for folder in REFERENCES.iterdir() if folder.is_dir()]
    without = [record.device_name for record in records if find_data_sheet(record.device_name) is None]

    assert len(without) == 2
    assert all("NVIDIA" not in name and "RTX" not in name for name in without)
