"""Downloading from a hub: what arrives, and the message when it does not."""

import json
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbench.errors import UserError, WeightsUnavailable
from sdbench.models import hub as hub_module
from sdbench.models.hub import Pin, check_pin, fetch_snapshot, read_token
from tests.models.hub import HUB_ID, REVISION, Hub, free_endpoint, serving

CANARY = "hf_canary_0123456789_never_shown"
UNET = "unet/diffusion_pytorch_model.safetensors"
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
REQUIRED_FILES = (
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "unet/config.json",
    UNET,
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
TOKENIZER_FILES = ("merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
WANTED_FILES = (*REQUIRED_FILES, "model_index.json", *(f"tokenizer/{name}" for name in TOKENIZER_FILES))
# Larger than the chunks that the tests make the library write, so that a broken download leaves some behind.
UNET_BYTES = bytes(range(256)) * 512
CHUNK_BYTES = 1024


def small_repository() -> dict[str, bytes]:
    """Return a repository with every file, none of which can be loaded."""
    files = {name: f"content of {name}".encode() for name in WANTED_FILES}
    others = {"README.md": b"# tiny", "unet/diffusion_pytorch_model.bin": b"pickle"}
    return files | {UNET: UNET_BYTES, "model_index.json": json.dumps(INDEX).encode()} | others


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(files=small_repository())) as running:
        reach(monkeypatch, running.endpoint)
        yield running


def reach(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Point huggingface_hub at ``endpoint``, without tokens of this machine, waiting or large chunks."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("ACCESS_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK_BYTES)
    monkeypatch.setattr(time, "sleep", lambda duration_s: None)


def fetch(folder: Path, revision: str = REVISION, hub_id: str = HUB_ID) -> Path:
    return fetch_snapshot(Pin(hub_id, revision, folder), sleep=lambda duration_s: None)


def refusal(folder: Path, revision: str = REVISION, hub_id: str = HUB_ID) -> str:
    """Return the message of a download that fails: one line."""
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(folder, revision, hub_id)
    message = str(caught.value)
    assert "\n" not in message
    return message


def downloads(hub: Hub) -> set[str]:
    """Return the files that were asked for."""
    return {item.path.rpartition(f"/{REVISION}/")[2] for item in hub.requests if "/resolve/" in item.path}


def use_variant(hub: Hub, variant: str) -> None:
    """Keep the weights of the repository under the names of a variant only."""
    named = {path: path.replace(".safetensors", f".{variant}.safetensors") for path in hub.files}
    hub.files = {named[path]: content for path, content in hub.files.items()}


def test_a_repository_with_one_variant_only_gives_that(hub: Hub, tmp_path: Path) -> None:
    use_variant(hub, "fp16")
    assert (fetch(tmp_path) / "unet/diffusion_pytorch_model.fp16.safetensors").is_file()


def test_of_two_variants_only_the_one_without_a_name_arrives(hub: Hub, tmp_path: Path) -> None:
    plain = dict(hub.files)
    use_variant(hub, "fp16")
    hub.files |= plain
    fetch(tmp_path)
    assert not [name for name in downloads(hub) if "fp16" in name]


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_weights_in_parts_arrive_and_a_missing_part_is_named(hub: Hub, tmp_path: Path, variant: str) -> None:
    content = hub.files.pop(UNET)
    stem = f"unet/diffusion_pytorch_model{variant}"
    parts = [f"{stem}-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    hub.files |= dict.fromkeys(parts[:2], content)
    assert f"has no {parts[2]}; " in refusal(tmp_path)
    hub.files[parts[2]] = content
    assert {path.name for path in (fetch(tmp_path) / "unet").glob("*.safetensors")} == {
        Path(name).name for name in parts
    }


@pytest.mark.parametrize("names", [("spiece.model",), ("tokenizer.json",), ("vocab.json", "merges.txt")])
def test_the_files_of_every_kind_of_tokenizer_arrive(hub: Hub, tmp_path: Path, names: tuple[str, ...]) -> None:
    hub.files = {path: content for path, content in hub.files.items() if not path.startswith("tokenizer/")}
    hub.files |= {f"tokenizer/{name}": b"words" for name in (*names, "chat_template.jinja")}
    folder = fetch(tmp_path) / "tokenizer"
    assert {path.name for path in folder.iterdir()} == {*names, "chat_template.jinja"}


def test_the_configs_arrive_without_the_weights(hub: Hub, tmp_path: Path) -> None:
    fetch_snapshot(Pin(HUB_ID, REVISION, tmp_path), configs_only=True)
    assert not [name for name in downloads(hub) if name.endswith((".safetensors", "vocab.json", "tokenizer.json"))]
    hub.requests.clear()
    fetch_snapshot(Pin(HUB_ID, REVISION, tmp_path), configs_only=True)
    assert hub.requests == []
    assert (fetch(tmp_path) / UNET).is_file()


def test_the_needed_files_arrive_and_no_others(hub: Hub, tmp_path: Path) -> None:
    folder = fetch(tmp_path)
    arrived = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert arrived == {name: hub.files[name] for name in WANTED_FILES}
    assert not hub.ranges_of("diffusion_pytorch_model.bin")


def test_a_complete_cache_sends_nothing_to_the_hub(hub: Hub, tmp_path: Path) -> None:
    folder = fetch(tmp_path)
    hub.requests.clear()
    assert fetch(tmp_path) == folder
    assert hub.requests == []


def test_a_cache_that_lost_a_file_fetches_only_that(hub: Hub, tmp_path: Path) -> None:
    lost = fetch(tmp_path) / "vae/config.json"
    lost.resolve().unlink()
    hub.requests.clear()
    fetch(tmp_path)
    assert lost.read_bytes() == hub.files["vae/config.json"]
    assert [request.path.rpartition(REVISION)[2] for request in hub.requests if request.method == "GET"][
        -1
    ] == "/vae/config.json"
    assert hub.ranges_of(UNET) == []


def test_a_stream_that_ends_early_is_resumed_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.break_off, hub.broken = "end early", {UNET}
    assert (fetch(tmp_path) / UNET).read_bytes() == UNET_BYTES
    first, second = hub.ranges_of(UNET)
    assert first is None
    assert second == f"bytes={len(UNET_BYTES) // 2}-"


def test_a_connection_that_is_reset_is_tried_again_and_keeps_finished_files(hub: Hub, tmp_path: Path) -> None:
    hub.break_off, hub.broken = "reset", {UNET}
    assert (fetch(tmp_path) / UNET).read_bytes() == UNET_BYTES
    assert len(hub.ranges_of(UNET)) > 1
    assert all(len(hub.ranges_of(name)) == 1 for name in WANTED_FILES if name != UNET)


def test_a_connection_that_breaks_every_time_is_given_up_with_its_hint(hub: Hub, tmp_path: Path) -> None:
    hub.break_off, hub.broken, hub.breaks_per_file = "reset", {UNET}, 1000
    message = refusal(tmp_path)
    assert f"the connection to {hub.endpoint} broke again and again" in message
    assert "run again: finished files are kept" in message


def test_a_gated_repository_asks_for_a_token(hub: Hub, tmp_path: Path) -> None:
    hub.gate_token = "hf_other"
    message = refusal(tmp_path)
    assert "org/tiny is gated (401)" in message
    assert f"accept its terms on {hub.endpoint}/org/tiny, then set HF_TOKEN" in message


@pytest.mark.parametrize("variable", ["HF_TOKEN", "ACCESS_TOKEN"])
def test_a_token_without_access_has_its_own_message(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    hub.gate_token = "hf_other"
    monkeypatch.setenv(variable, CANARY)
    message = refusal(tmp_path)
    assert "the account of the token has no access (403)" in message
    assert CANARY not in message


@pytest.mark.parametrize("variable", ["HF_TOKEN", "ACCESS_TOKEN"])
def test_a_token_with_access_opens_the_gate(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    hub.gate_token = CANARY
    monkeypatch.setenv(variable, f"{CANARY}\n")
    assert (fetch(tmp_path) / UNET).is_file()


def test_hf_token_goes_before_access_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_first")
    monkeypatch.setenv("ACCESS_TOKEN", "hf_second")
    assert read_token() == "hf_first"


def test_a_login_stored_on_this_machine_is_not_sent(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    stored = tmp_path / "token"
    stored.write_text(CANARY)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(stored))
    fetch(tmp_path)
    assert {request.authorization for request in hub.requests} == {None}


def test_a_garbled_token_is_refused_without_showing_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{CANARY}\nX-Other: 1")
    message = refusal(tmp_path)
    assert "HF_TOKEN contains characters that no token has" in message
    assert CANARY not in message
    assert hub.requests == []


def test_a_renamed_repository_is_named_as_it_is_called_now(hub: Hub, tmp_path: Path) -> None:
    hub.hub_id = "org/renamed"
    assert refusal(tmp_path) == "org/tiny is called org/renamed now; set hub_id to that"


def test_a_missing_revision_is_named(hub: Hub, tmp_path: Path) -> None:
    revision = "f" * 40
    message = refusal(tmp_path, revision=revision)
    assert f"org/tiny has no revision {revision}" in message
    assert "/org/tiny/commits/main" in message


def test_a_missing_repository_is_named(hub: Hub, tmp_path: Path) -> None:
    message = refusal(tmp_path, hub_id="org/absent")
    assert f"{hub.endpoint} answered 404 when asked for org/absent; check model.hub_id" in message


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "check model.hub_id"), (403, "a token that may read it"), (500, "try again later")]
)
def test_a_refused_listing_is_named_with_its_status(hub: Hub, tmp_path: Path, status: int, hint: str) -> None:
    hub.list_status = status
    message = refusal(tmp_path)
    assert f"answered {status} when asked for org/tiny" in message
    assert hint in message


def test_a_refused_token_has_another_message_than_a_missing_one(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.list_status = 401
    monkeypatch.setenv("HF_TOKEN", CANARY)
    assert "the token may be invalid" in refusal(tmp_path)


@pytest.mark.parametrize("name", [*REQUIRED_FILES, "tokenizer/*"])
def test_a_missing_file_is_named_before_anything_is_downloaded(hub: Hub, tmp_path: Path, name: str) -> None:
    del hub.files["unet/diffusion_pytorch_model.bin"]
    hub.files = {path: content for path, content in hub.files.items() if not Path(path).match(name)}
    message = refusal(tmp_path)
    assert "has no" in message
    assert name.replace("*", "tokenizer.json") in message
    assert downloads(hub) <= {"model_index.json"}


def test_the_older_pair_of_tokenizer_files_is_enough(hub: Hub, tmp_path: Path) -> None:
    del hub.files["tokenizer/tokenizer.json"]
    assert (fetch(tmp_path) / "tokenizer/merges.txt").is_file()


def test_a_listed_file_that_is_gone_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.unlisted = {"vae/config.json"}
    assert "does not have a file that it lists" in refusal(tmp_path)


def test_a_repository_of_pickles_is_refused_before_anything_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.files = {
        path.replace(".safetensors", ".bin") if path == UNET else path: content for path, content in hub.files.items()
    }
    message = refusal(tmp_path)
    assert "only pickled weights (unet/diffusion_pytorch_model.bin), which can run code" in message
    assert "pin a revision that has safetensors" in message
    assert downloads(hub) <= {"model_index.json"}


def test_no_network_is_named_with_its_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = free_endpoint()
    reach(monkeypatch, endpoint)
    message = refusal(tmp_path)
    assert f"no connection to {endpoint}" in message
    assert f"copy a filled cache to {tmp_path}" in message


def test_host_without_memory_for_a_download_is_out_of_memory_and_shows_no_text_of_the_library(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Cannot allocate memory (os error 12), authorization: Bearer token")

    monkeypatch.setattr(hub_module, "_download", fail)
    with pytest.raises(MemoryError, match=r"^no memory on the host to download [^ ]+ at [0-9a-f]+ \(RuntimeError\)$"):
        fetch(tmp_path)


def test_offline_mode_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(tmp_path)


@pytest.mark.parametrize(
    "listing", [b"<html>sign in</html>", b'"a string"', b'{"error": "x"}', b'[{"a": 1}]', b'{"id": "org/tiny"}']
)
def test_an_answer_that_is_not_a_listing_is_one_line(hub: Hub, tmp_path: Path, listing: bytes) -> None:
    hub.listing = listing
    message = refusal(tmp_path)
    assert "check HF_ENDPOINT and the network" in message or (b"id" in listing and "has no model_index.json" in message)


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    message = refusal(blocked)
    assert str(blocked) in message
    assert "cannot be written" in message


def test_a_password_in_the_endpoint_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = free_endpoint().removeprefix("http://")
    reach(monkeypatch, f"http://user:{CANARY}@{address}")
    message = refusal(tmp_path)
    assert f"no connection to http://{address}" in message
    assert CANARY not in message


@pytest.mark.parametrize("trouble", ["gate", "reset", "end early", "status", "revision", "none"])
def test_the_token_is_in_no_log_message_traceback_or_file(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setattr(constants, "HF_DEBUG", True)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    hub.gate_token = "hf_other" if trouble == "gate" else None
    hub.list_status = 500 if trouble == "status" else None
    if trouble in ("reset", "end early"):
        hub.break_off, hub.broken, hub.breaks_per_file = trouble, {UNET}, 1000  # type: ignore[assignment]
    shown = ""
    with caplog.at_level(logging.DEBUG):
        try:
            fetch(tmp_path, revision="f" * 40 if trouble == "revision" else REVISION)
        except WeightsUnavailable as error:
            # With its traceback, because a bug report would carry that.
            shown = "".join(traceback.format_exception(error))
    assert bool(shown) == (trouble != "none")
    assert caplog.records, "the library logs its requests, or the guard guards nothing"
    assert CANARY not in shown + caplog.text
    assert any(request.authorization == f"Bearer {CANARY}" for request in hub.requests)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


@pytest.mark.parametrize("revision", ["main", "0123456", REVISION.upper(), REVISION + "0", REVISION + "\n"])
def test_a_revision_that_is_not_a_commit_hash_is_refused(revision: str) -> None:
    with pytest.raises(UserError, match="expected a commit hash"):
        check_pin(HUB_ID, revision)


@pytest.mark.parametrize("hub_id", ["name", "a/b/c", "../../etc", "org/ti ny", "org/tiny.git"])
def test_a_hub_id_that_names_no_repository_is_refused(hub_id: str) -> None:
    with pytest.raises(UserError, match="write it as owner/name"):
        check_pin(hub_id, REVISION)


@pytest.mark.parametrize(("hub_id", "revision"), [(None, REVISION), ("", REVISION), (HUB_ID, None), (None, None)])
def test_half_a_pin_asks_for_both(hub_id: str | None, revision: str | None) -> None:
    with pytest.raises(UserError, match=r"need hub_id .* and revision .*; set both"):
        check_pin(hub_id, revision)
