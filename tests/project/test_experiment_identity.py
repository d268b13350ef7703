"""ADR 0001: an option at its default is left out of the identity, and a released default never changes."""

import pytest

from sdbench.schema.experiment import Experiment, VirtualOptions

REQUIRED = {"pipeline"}
# A new option adds a line; a changed or removed line breaks every stored record.
RELEASED_DEFAULTS: dict[str, object] = {
    "config": {},
    "workload": "latency",
    "backend": "pytorch",
    "device": "any",
    "weights": "synthetic",
    "weights_seed": 0,
    "hub_id": None,
    "revision": None,
    "precision": "fp32",
    "autocast": "off",
    "tf32": False,
    "batch": 1,
    "steps": 50,
    "height": 512,
    "width": 512,
    "scheduler": "pndm",
    "guidance_scale": 7.5,
    "max_sequence_length": None,
    "timestep_spacing": None,
    "seed": 42,
    "threads": None,
    "prompt": "a photo of an astronaut riding a horse on mars",
    "negative_prompt": "",
    "attention": "sdpa",
    "vae_slicing": False,
    "vae_tiling": False,
    "channels_last": False,
    "graph_optimization": "all",
    "inter_op_threads": None,
    "batch_max": 256,
    "memory_limit_bytes": None,
    "sweep_min": 10,
    "sweep_max": 100,
    "sweep_every": 5,
    "virtual": VirtualOptions(),
}
RELEASED_IDENTITIES = [
    ("8d1da60d570e5508", Experiment(pipeline="tiny-sd")),
    ("ea13abd1d2b1597a", Experiment(pipeline="sd-1.4", precision="fp16", batch=4, steps=30)),
    (
        "c88ae180364320d0",
        Experiment(pipeline="sd-1.4", weights="pretrained", hub_id="owner/name", revision="0" * 40),
    ),
]


def test_every_option_keeps_the_default_it_was_released_with() -> None:
    defaults = {name: field.default for name, field in Experiment.model_fields.items() if not field.is_required()}
    assert defaults == RELEASED_DEFAULTS


def test_only_the_pipeline_has_to_be_given() -> None:
    assert {name for name, field in Experiment.model_fields.items() if field.is_required()} == REQUIRED


@pytest.mark.parametrize(("identity", "experiment"), RELEASED_IDENTITIES)
def test_released_identities_stay(identity: str, experiment: Experiment) -> None:
    assert experiment.experiment_id == identity


def test_writing_a_default_out_does_not_change_the_identity() -> None:
    written_out = Experiment.model_validate({"pipeline": "tiny-sd", **RELEASED_DEFAULTS})
    assert written_out.experiment_id == Experiment(pipeline="tiny-sd").experiment_id


@pytest.mark.parametrize(
    "option",
    [{"precision": "bf16"}, {"batch": 2}, {"seed": 43}, {"threads": 2}, {"guidance_scale": 7.25}, {"tf32": True}],
)
def test_every_option_off_its_default_changes_the_identity(option: dict[str, object]) -> None:
    changed = Experiment.model_validate({"pipeline": "tiny-sd", **option})
    assert changed.experiment_id != Experiment(pipeline="tiny-sd").experiment_id


def test_a_hub_id_says_nothing_about_synthetic_weights() -> None:
    named = Experiment(pipeline="tiny-sd", hub_id="owner/name", revision="0" * 40)
    assert named.experiment_id == Experiment(pipeline="tiny-sd").experiment_id
