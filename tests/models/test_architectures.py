import subprocess
import sys
from typing import get_args

import pytest

from sdbench.errors import UserError
from sdbench.models import ARCHITECTURES
from sdbench.models.architectures import COMPONENTS, load_architecture
from sdbench.models.libraries import import_library_classes
from sdbench.models.synthetic import build_on_meta
from sdbench.schema.experiment import Architecture as ArchitectureName


def test_every_architecture_of_the_schema_has_a_config_and_no_other() -> None:
    assert set(ARCHITECTURES) == set(get_args(ArchitectureName))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_networks_have_as_many_parameters_as_the_config_states(name: str) -> None:
    architecture, classes = load_architecture(name), import_library_classes()
    counts = {
        component: sum(tensor.numel() for tensor in build_on_meta(architecture, component, classes).parameters())
        for component in COMPONENTS
    }
    assert counts == architecture.parameter_counts.model_dump()
    assert architecture.parameter_count == sum(counts.values())


def test_sd_v1_4_has_the_published_parameter_counts() -> None:
    counts = load_architecture("sd-v1-4").parameter_counts
    assert (counts.unet, counts.vae, counts.text_encoder) == (859_520_964, 83_653_863, 123_060_480)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_latent_stands_for_eight_pixels(name: str) -> None:
    assert load_architecture(name).image_px_per_latent == 8


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_text_encoder_feeds_the_cross_attention(name: str) -> None:
    architecture = load_architecture(name)
    assert architecture.unet["cross_attention_dim"] == architecture.text_encoder["hidden_size"]


def test_an_unknown_architecture_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"unknown architecture 'sd-v1\.4'; did you mean 'sd-v1-4'"):
        load_architecture("sd-v1.4")


def test_reading_an_architecture_imports_nothing_heavy() -> None:
    program = (
        "import sys; from sdbench.models.architectures import load_architecture; load_architecture('tiny'); "
        "import sdbench.models.schedulers, sdbench.models.tokenizer, sdbench.models.pipeline, sdbench.models.hub; "
        "print(sorted({'torch', 'numpy', 'diffusers', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
