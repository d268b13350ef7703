from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sdbench.schema.experiment import Experiment, at_batch

OPTIONS = st.fixed_dictionaries(
    {"pipeline": st.sampled_from(["tiny-sd", "sd-1.4"])},
    optional={
        "precision": st.sampled_from(["fp32", "fp16", "bf16"]),
        "batch": st.integers(1, 4096),
        "steps": st.integers(1, 1000),
        "height": st.integers(1, 1024).map(lambda eighths: 8 * eighths),
        "guidance_scale": st.floats(0, 100),
        "tf32": st.booleans(),
        "prompt": st.text(st.characters(codec="utf-8"), max_size=20),
        "threads": st.none() | st.integers(1, 64),
    },
)


@settings(deadline=None, max_examples=50)
@given(OPTIONS, st.randoms(use_true_random=False))
def test_identity_depends_neither_on_key_order_nor_on_defaults_written_out(
    options: dict[str, Any], source: Any
) -> None:
    experiment = Experiment.model_validate(options)
    keys = list(options)
    source.shuffle(keys)
    assert Experiment.model_validate({key: options[key] for key in keys}).experiment_id == experiment.experiment_id
    assert Experiment.model_validate(experiment.model_dump()).experiment_id == experiment.experiment_id


@settings(deadline=None, max_examples=50)
@given(OPTIONS, OPTIONS)
def test_experiments_share_an_identity_only_when_they_are_equal(first: dict[str, Any], second: dict[str, Any]) -> None:
    one, other = Experiment.model_validate(first), Experiment.model_validate(second)
    assert (one == other) == (one.experiment_id == other.experiment_id)


def test_whole_number_and_float_of_one_value_are_one_experiment() -> None:
    whole = Experiment.model_validate({"pipeline": "tiny-sd", "guidance_scale": 7})
    assert whole.experiment_id == Experiment(pipeline="tiny-sd", guidance_scale=7.0).experiment_id


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipeline": "./sdxl"},
        {"pipeline": "tiny-sd", "precision": "int8"},
        {"pipeline": "tiny-sd", "batch": 0},
        {"pipeline": "tiny-sd", "batch": True},
        {"pipeline": "tiny-sd", "batch": "2"},
        {"pipeline": "tiny-sd", "height": 65},
        {"pipeline": "tiny-sd", "width": 8200},
        {"pipeline": "tiny-sd", "guidance_scale": float("nan")},
        {"pipeline": "tiny-sd", "guidance_scale": float("inf")},
        {"pipeline": "tiny-sd", "guidance_scale": -1},
        {"pipeline": "tiny-sd", "seed": 2**63},
        {"pipeline": "tiny-sd", "threads": 0},
        {"pipeline": "tiny-sd", "colour": "red"},
        {"pipeline": "tiny-sd", "attention": "sliced", "backend": "onnxruntime"},
        {"pipeline": "tiny-sd", "graph_optimization": "basic"},
        {"pipeline": "tiny-sd", "batch_max": 4},
        {"pipeline": "tiny-sd", "sweep_min": 2},
        {"pipeline": "tiny-sd", "workload": "largest-batch", "batch": 2},
        {"pipeline": "tiny-sd", "workload": "precision", "sweep_min": 20, "sweep_max": 10},
        {"pipeline": "tiny-sd", "weights": "pretrained", "hub_id": "owner/name", "revision": "main"},
    ],
    ids=str,
)
def test_options_of_the_wrong_type_out_of_range_or_unpinned_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Experiment.model_validate(options)


def test_experiment_is_frozen() -> None:
    experiment = Experiment(pipeline="tiny-sd")
    with pytest.raises(ValidationError, match="frozen"):
        experiment.batch = 2


def test_label_names_what_differs_from_the_plain_case() -> None:
    plain = Experiment(pipeline="tiny-sd", height=64, width=128, steps=1)
    assert plain.label == "tiny-sd fp32 batch 1 128x64 1 step"
    rich = Experiment(
        pipeline="sd-1.4",
        precision="fp16",
        autocast="fp16",
        tf32=True,
        batch=2,
        scheduler="ddim",
        device="cuda",
        threads=4,
    )
    assert rich.label == "sd-1.4 fp16 autocast fp16 TF32 batch 2 512x512 50 steps ddim cuda 4 threads"


def test_label_names_what_is_changed_in_the_pipeline() -> None:
    changes = {"transformer.num_layers": 2, "text_encoder_2.num_layers": 1, "vae.force_upcast": False}
    experiment = Experiment(pipeline="flux.1-schnell", config=changes)
    title = "flux.1-schnell text_encoder_2.num_layers=1 transformer.num_layers=2 force_upcast=false"
    assert experiment.pipeline_title == title
    assert experiment.label.startswith(f"{title} fp32 batch 1")


@pytest.mark.parametrize("options", [{"workload": "precision", "sweep_min": 2}, {"workload": "largest-batch"}], ids=str)
def test_latency_experiment_at_a_batch_has_no_options_of_other_workloads(options: dict[str, Any]) -> None:
    experiment = Experiment.model_validate({"pipeline": "tiny-sd", **options})
    assert at_batch(experiment, 4) == Experiment(pipeline="tiny-sd", batch=4)
