import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from sdbench.backends.diffusers_call import PIXELS_PER_LATENT
from sdbench.errors import UserError
from sdbench.models import architectures
from sdbench.models.architectures import COMPONENTS, load_architecture
from sdbench.models.synthetic import build_on_meta
from sdbench.schema.experiment import Architecture as ArchitectureName

ARCHITECTURES = get_args(ArchitectureName)


def test_every_architecture_of_the_schema_has_a_config_and_no_other() -> None:
    assert {path.stem for path in Path(architectures.__file__).parent.glob("configs/*.json")} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_networks_have_as_many_parameters_as_the_config_states(name: str) -> None:
    architecture = load_architecture(name)
    counts = {
        component: sum(tensor.numel() for tensor in build_on_meta(architecture, component).parameters())
        for component in COMPONENTS
    }
    assert counts == architecture.parameter_counts
    assert architecture.parameter_count == sum(counts.values())


def test_sd_v1_4_has_the_published_parameter_counts() -> None:
    counts = load_architecture("sd-1.4").parameter_counts
    assert counts == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_latent_stands_for_eight_pixels(name: str) -> None:
    # Each block of the VAE but the last halves the image.
    assert 2 ** (len(load_architecture(name).vae["block_out_channels"]) - 1) == PIXELS_PER_LATENT == 8


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_text_encoder_feeds_the_cross_attention(name: str) -> None:
    architecture = load_architecture(name)
    assert architecture.unet["cross_attention_dim"] == architecture.text_encoder["hidden_size"]


def test_reading_an_architecture_imports_nothing_heavy() -> None:
    program = (
        "import sys; from sdbench.models.architectures import load_architecture; load_architecture('tiny'); "
        "import sdbench.models.tokenizer, sdbench.models.pipeline, sdbench.models.hub; "
        "print(sorted({'torch', 'numpy', 'diffusers', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_architecture_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown architecture 'sdxl'; choose one of: sd-1.4, tiny"):
        load_architecture("sdxl")
