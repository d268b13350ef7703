"""What the planner says of NVIDIA cards: their time against public results, and what they cannot run."""

from typing import Any

import pytest

from sdbench.plan.budget import describe_total, expected_launches, total_s, warn_of_budget
from sdbench.plan.estimate import estimate
from sdbench.plan.machine import Machine, describe_machine
from sdbench.plan.make_plan import Plan, PlanRequest, make_plan
from sdbench.plan.skips import reason_to_skip
from sdbench.probes.devices import Device
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.record import PlannedExperiment

GIB = 2**30
# Compute capability, multiprocessors, highest SM clock (MHz) that NVML reports, memory (GiB).
CARDS = {
    "V100": ("7.0", 80, 1530, 16),
    "T4": ("7.5", 40, 1590, 16),
    "RTX 2080 SUPER": ("7.5", 48, 2145, 8),
    "A100": ("8.0", 108, 1410, 80),
    "RTX 3060": ("8.6", 28, 2130, 12),
    "RTX 3090": ("8.6", 82, 2100, 24),
    "A10G": ("8.6", 80, 1710, 24),
    "RTX 4090": ("8.9", 128, 3105, 24),
    "L20": ("8.9", 92, 2520, 48),
    "H100": ("9.0", 132, 1980, 80),
    "H100 PCIe": ("9.0", 114, 1755, 80),
    "B200": ("10.0", 148, 1965, 180),
    "RTX 5090": ("12.0", 170, 3090, 32),
}
DIFFUSERS = "huggingface/diffusers, docs/source/en/optimization/torch2.0.md"  # calls of the UNet a second, fp16, SDPA
STUDY = "LambdaLabsML/lambda-diffusers, docs/lambda-2022"  # seconds for 50 steps
EAGER = {"attention": "eager", "tf32": "convolutions"}
HALF: dict[str, Any] = {"precision": "fp16"}
STUDY_HALF = EAGER | {"precision": "fp16", "autocast": "fp16"}
FLUX: dict[str, Any] = {"pipeline": "flux.1-dev", "precision": "bf16", "scheduler": "flow-euler", "steps": 28}
# SD v1.4 or v1.5 at 512x512 with 50 steps if nothing else is said, from prompt to image.
PUBLIC = [
    ("H100 PCIe", HALF, 1.44, "alexeigor/sd-benchmarks, README: PyTorch 2.0, fp16"),
    ("RTX 4090", HALF, 50 / 40.5, DIFFUSERS),
    ("RTX 4090", HALF | {"batch": 4}, 50 / 12.62, DIFFUSERS),
    ("RTX 4090", HALF | {"batch": 16}, 50 / 3.17, DIFFUSERS),
    ("RTX 3060", HALF, 50 / 7, "smeltcore.com/recipes/sd1-5-rtx-3060: 6 to 8 calls a second"),
    # DeciDiffusion's model card: PyTorch, fp16, 2.95 s on an A10, which has 72 multiprocessors of the same kind.
    ("A10G", HALF, 2.95 * 72 / 80, "huggingface.co/Deci/DeciDiffusion-v1-0"),
    ("T4", HALF, 50 / 6.9, DIFFUSERS),
    ("T4", HALF, 7.83, "alexeigor/sd-benchmarks, README: PyTorch 2.0, fp16, xformers"),
    ("T4", HALF | {"batch": 4}, 50 / 1.79, DIFFUSERS),
    ("V100", HALF, 50 / 18.99, DIFFUSERS),
    ("V100", HALF | {"batch": 16}, 50 / 1.66, DIFFUSERS),
    ("A100", HALF, 1.59, "fal-ai/stable-diffusion-benchmarks, README: diffusers, fp16, SDPA"),
    ("A100", HALF | {"batch": 16}, 50 / 3.04, DIFFUSERS),
    ("A100", STUDY_HALF, 3.74, STUDY),
    ("A100", STUDY_HALF | {"batch": 28}, 63.88, STUDY),
    ("A100", EAGER, 6.39, STUDY),
    ("RTX 3090", HALF, 50 / 22.56, DIFFUSERS),
    ("RTX 3090", STUDY_HALF, 4.83, STUDY),
    ("RTX 3090", EAGER | {"batch": 4}, 27.94, STUDY),
    ("L20", FLUX | {"height": 1024, "width": 1024}, 24.94, "xlite-dev/flux-faster, README: bf16, without compile"),
]


def unknown() -> Any:
    return Unknown(reason="not read in this test")


def make_device(card: str) -> Device:
    capability, count, clock_mhz, memory_gib = CARDS[card]
    fields: dict[str, Reading[Any]] = {
        "compute_capability": Known(value=capability),
        "multiprocessor_count": Known(value=count),
        "clock_max_sm_mhz": Known(value=clock_mhz),
        "memory_total_bytes": Known(value=memory_gib * GIB),
    }
    return Device(
        kind="cuda", index=0, uuid=None, name=card, lock_key="0", torch_name="cuda:0", choice="", warnings=(), **fields
    )


def make_machine(card: str) -> Machine:
    return describe_machine(make_device(card))


def plan_for(card: str, manifest: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr("sdbench.plan.make_plan.choose_device", lambda _request: make_device(card))
    monkeypatch.setattr("sdbench.plan.skips.find_spec", lambda _name: object())
    return make_plan(PlanRequest(manifest))


def cost(card: str, **options: Any) -> Any:
    experiment = Experiment(**{"pipeline": "sd-1.4", **options})
    planned = PlannedExperiment(
        experiment_id="0", label="one", groups=("a",), experiment=experiment, protocol=Protocol()
    )
    return estimate(planned, make_machine(card))


@pytest.mark.parametrize(("card", "options", "seconds", "source"), PUBLIC, ids=str)
def test_estimate_is_within_a_factor_of_two_of_a_public_result(
    card: str, options: dict[str, Any], seconds: float, source: str
) -> None:
    assert source
    assert seconds / 2 < cost(card, **options).call_s < seconds * 2


def test_gpu_that_reports_nothing_is_estimated_between_small_and_large_cards() -> None:
    nothing = make_machine("A100").model_copy(update={"multiprocessor_count": None})
    experiment = Experiment(pipeline="sd-1.4", precision="fp16", batch=16)
    planned = PlannedExperiment(
        experiment_id="0", label="one", groups=("a",), experiment=experiment, protocol=Protocol()
    )
    assert (
        cost("H100", precision="fp16", batch=16).call_s
        < estimate(planned, nothing).call_s
        < cost("T4", precision="fp16", batch=16).call_s
    )


def test_small_batches_cost_what_the_host_needs_on_every_fast_card() -> None:
    assert cost("H100", precision="fp16").call_s == cost("B200", precision="fp16").call_s
    assert cost("H100", precision="fp16", batch=16).call_s > 2 * cost("H100", precision="fp16").call_s


# Reasons by card: why a kernel or precision of the study cannot run there.
NO_AMPERE = {"sdpa-flash": "needs compute capability 8.0", "sdpa-cudnn": "needs compute capability 8.0"}
NO_CUDNN = {"sdpa-cudnn": "takes heads of at most 128 channels here, and this denoiser has some of 160"}
SKIPPED = {
    "V100": NO_AMPERE, "T4": NO_AMPERE, "RTX 2080 SUPER": NO_AMPERE, "A100": NO_CUDNN, "RTX 3060": NO_CUDNN,
    "RTX 3090": NO_CUDNN, "A10G": NO_CUDNN, "RTX 4090": NO_CUDNN, "L20": NO_CUDNN, "H100": {}, "B200": NO_CUDNN,
    "RTX 5090": NO_CUDNN,
}  # fmt: skip


@pytest.mark.parametrize("card", SKIPPED)
def test_study_skips_on_a_card_what_torch_could_not_run_there(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(card, "lambda-2022", monkeypatch)
    skipped = {
        str(item.experiment.attention): plan.skipped[item.experiment_id].reason
        for item in plan.planned
        if item.experiment_id in plan.skipped and item.experiment.attention.startswith("sdpa-")
    }
    assert skipped.keys() == SKIPPED[card].keys()
    assert all(text in skipped[attention] for attention, text in SKIPPED[card].items())
    older = card in ("V100", "T4", "RTX 2080 SUPER")
    for item in plan.planned:
        needs_ampere = "bf16" in (item.experiment.precision, item.experiment.autocast) or item.experiment.tf32 is True
        if item.experiment.device != "cpu" and needs_ampere:
            assert (item.experiment_id in plan.skipped) == older


@pytest.mark.parametrize(
    ("card", "options", "reason", "hint"),
    [
        ("A100", {"attention": "sdpa-flash"}, "computes in half precision only", "precision: fp16"),
        ("A100", {"attention": "sdpa-cudnn", "autocast": "fp16"}, "heads of at most 128", "sdpa-flash"),
        ("T4", {"precision": "bf16"}, "bf16 needs compute capability 8.0, this GPU has compute capability 7.5", "fp16"),
        ("T4", {"autocast": "bf16"}, "bf16 needs compute capability 8.0", "fp16"),
        ("T4", {"tf32": True}, "TF32 needs compute capability 8.0", "tf32: false"),
        (
            "H100",
            {"pipeline": "tiny-sd", "precision": "fp16", "attention": "sdpa-efficient"},
            "takes heads of a multiple of 8 channels",
            "sdpa-flash",
        ),
    ],
    ids=str,
)
def test_reason_to_skip_names_the_card_and_what_to_do(
    card: str, options: dict[str, Any], reason: str, hint: str
) -> None:
    skip = reason_to_skip(Experiment(**({"pipeline": "sd-1.4"} | options)), make_machine(card), GIB)
    assert skip is not None
    assert reason in skip.reason
    assert hint in skip.hint


@pytest.mark.parametrize("options", [{"tf32": "convolutions"}, {"attention": "sdpa-efficient"}, {"precision": "fp16"}])
def test_what_an_old_card_can_run_is_not_skipped(options: dict[str, Any]) -> None:
    assert reason_to_skip(Experiment(pipeline="sd-1.4", **options), make_machine("T4"), GIB) is None


def test_batch_that_does_not_fit_costs_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for("A100", "lambda-2022", monkeypatch)
    counts = expected_launches(plan)
    too_large = [
        item for item in plan.planned if not plan.estimates[item.experiment_id].fits and item.experiment.device != "cpu"
    ]
    # With eager attention. The largest that the study ran there: 28 in half precision, 16 in fp32.
    expected = {("fp32", 32), ("fp32", 64), ("fp16", 32), ("fp16", 64)}
    assert {(item.experiment.precision, item.experiment.batch) for item in too_large} == expected
    assert {counts[item.experiment_id] for item in too_large} == {1}


@pytest.mark.parametrize("card", CARDS)
def test_quick_manifest_takes_about_five_minutes_on_every_card(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(card, "quick", monkeypatch)
    assert plan.budget_s == 280
    counts = expected_launches(plan)
    runnable = [item for item in plan.planned if item.experiment_id not in plan.skipped]
    # Four images in fp32 take them 80 and 100 s a call.
    slow = card in ("RTX 3060", "T4")
    assert all(counts[item.experiment_id] for item in runnable if item.experiment.batch == 1 or not slow)
    assert describe_total(plan).startswith("4 experiments, 4 m 40 s at most; without the budget about ")


@pytest.mark.parametrize("card", ["RTX 3060", "RTX 4090", "A100", "B200"])
@pytest.mark.parametrize("manifest", ["models", "mlperf-sdxl", "few-step"])
def test_manifest_of_pipelines_tries_within_its_hour_what_may_fit(
    card: str, manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(card, manifest, monkeypatch)
    on_gpu = [item for item in plan.planned if item.experiment.device == "cuda"]
    skipped = [plan.skipped[item.experiment_id].reason for item in on_gpu if item.experiment_id in plan.skipped]
    assert all(reason.startswith("the weights alone take ") for reason in skipped)
    assert bool(skipped) == (card in ("RTX 3060", "RTX 4090") and (card, manifest) != ("RTX 4090", "mlperf-sdxl"))
    counts = expected_launches(plan)
    assert all(counts[item.experiment_id] for item in on_gpu if item.experiment_id not in plan.skipped)
    assert 60 < total_s(plan)[0] < 3600
    assert warn_of_budget(plan) is None


def test_faster_card_is_promised_a_shorter_night(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = {card: total_s(plan_for(card, "lambda-2022", monkeypatch))[0] / 3600 for card in ("H100", "A100", "T4")}
    assert hours["H100"] < hours["A100"] < hours["T4"]
