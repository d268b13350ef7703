import pwd
import socket
import stat
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench import privacy
from sdbench.privacy import Redactor, is_secret_name, strip_credentials
from sdbench.probes import software
from sdbench.probes.fingerprint import collect_fingerprint
from sdbench.probes.identity import hash_uuid, load_salt
from sdbench.schema.base import Known, Unknown
from tests.probes.replay import BARE_METAL, GPU_DEVICE, plant, replay_nvml

CANARIES = {
    "user": "annelieseq",
    "full name": "Anneliese Quist",
    "home": "/srv/people/annelieseq",
    "host": "kanarienvogel7",
    "domain": "kanarienvogel7.example.org",
    "token": "hf_KanarienvogelTokenValue123",
    "access token": "s3cr3t-kanarien-value",
    "product serial": "SN-CANARY-0001",
    "board serial": "BOARD-CANARY-2",
    "product uuid": "4c4c4544-0042-ca11-8010-b4c04f564433",
    "machine id": "0123456789abcdef0123456789abcde0",
    "mac": "02:ca:1a:1e:55:01",
    "gpu uuid": "5a11ed00-1111-4222-8333-abcdefabcdef",
}

SYSFS = {
    **BARE_METAL,
    "proc/sys/kernel/hostname": CANARIES["domain"] + "\n",
    "proc/sys/kernel/osrelease": f"6.12.9-{CANARIES['user']}\n",
    "etc/hostname": CANARIES["host"] + "\n",
    "etc/machine-id": CANARIES["machine id"] + "\n",
    "sys/class/dmi/id/product_serial": CANARIES["product serial"] + "\n",
    "sys/class/dmi/id/board_serial": CANARIES["board serial"] + "\n",
    "sys/class/dmi/id/product_uuid": CANARIES["product uuid"] + "\n",
    "sys/class/net/eth0/address": CANARIES["mac"] + "\n",
    "proc/self/cgroup": f"0::/user.slice/{CANARIES['user']}\n",
}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    everything = " ".join(CANARIES.values()).replace(CANARIES["gpu uuid"], f"GPU-{CANARIES['gpu uuid']}")
    entry = namedtuple("entry", "pw_name pw_gecos pw_dir")  # noqa: PYI024 - stands for a struct sequence
    monkeypatch.setattr(
        pwd,
        "getpwuid",
        lambda uid: entry(CANARIES["user"], CANARIES["full name"] + ",,,", CANARIES["home"]),
    )
    monkeypatch.setattr(socket, "gethostname", lambda: CANARIES["host"])
    return {
        "USER": CANARIES["user"],
        "LOGNAME": CANARIES["user"],
        "HOME": CANARIES["home"],
        "HOSTNAME": CANARIES["host"],
        "HF_TOKEN": CANARIES["token"],
        "ACCESS_TOKEN": CANARIES["access token"],
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "LD_PRELOAD": f"{CANARIES['home']}/lib/libjemalloc.so:/home/{CANARIES['user']}/x.so",
        "TORCHINDUCTOR_CACHE_DIR": f"/tmp/torchinductor_{CANARIES['user']}",
        "CUDA_VISIBLE_DEVICES": f"GPU-{CANARIES['gpu uuid']}",
        "OMP_NUM_THREADS": "2",
        "NCCL_EVERYTHING": everything,
        "TORCH_UPPER": everything.upper(),
    }


def leaks_in(text: str) -> list[str]:
    folded = text.lower()
    return [name for name, canary in CANARIES.items() if canary.lower() in folded]


def test_nothing_that_names_machine_or_user_is_in_a_fingerprint(tmp_path: Path, environ: dict[str, str]) -> None:
    root = plant(tmp_path / "root", SYSFS)

    text = collect_fingerprint(GPU_DEVICE, nvml=replay_nvml("healthy"), root=root, environ=environ).model_dump_json()

    assert leaks_in(text) == []
    assert str(tmp_path) not in text
    assert '"OMP_NUM_THREADS","value":"2"' in text


def test_the_canaries_do_leak_without_redaction(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy.Redactor, "redact", lambda self, text: text)
    root = plant(tmp_path / "root", SYSFS)

    text = collect_fingerprint(GPU_DEVICE, nvml=replay_nvml("healthy"), root=root, environ=environ).model_dump_json()

    assert set(leaks_in(text)) == set(CANARIES)


def test_the_fingerprint_keeps_its_hashes_from_one_reading_to_the_next(tmp_path: Path, environ: dict[str, str]) -> None:
    root = plant(tmp_path / "root", SYSFS)
    first, second = (
        collect_fingerprint(GPU_DEVICE, nvml=replay_nvml("healthy"), root=root, environ=environ) for _ in range(2)
    )
    plant(root, {"proc/loadavg": "9.99 1 1 1/1 1\n"})
    busy = collect_fingerprint(GPU_DEVICE, nvml=replay_nvml("healthy"), root=root, environ=environ)
    plant(root, {"sys/devices/system/cpu/smt/control": "off\n"})
    reconfigured = collect_fingerprint(GPU_DEVICE, nvml=replay_nvml("healthy"), root=root, environ=environ)

    assert first == second
    assert busy.state != first.state
    for part in ("hardware_sha256", "configuration_sha256", "software_sha256"):
        assert getattr(busy, part) == getattr(first, part)
    assert reconfigured.configuration_sha256 != first.configuration_sha256
    assert reconfigured.hardware_sha256 == first.hardware_sha256


def test_a_traceback_keeps_its_sense_and_loses_its_names(tmp_path: Path, environ: dict[str, str]) -> None:
    redactor = Redactor(plant(tmp_path / "root", SYSFS), environ)
    traceback = (
        f'File "{CANARIES["home"]}/sdbench/worker/launch.py", line 3, in run\n'
        f"OSError: [Errno 2] {CANARIES['host']}: /home/somebody-else/x, Authorization: Bearer abcdef0123456789\n"
    )

    assert redactor.redact(traceback) == (
        'File "~/sdbench/worker/launch.py", line 3, in run\n'
        "OSError: [Errno 2] (host): ~/x, Authorization: Bearer (secret)\n"
    )


def test_a_uuid_is_taken_out_also_as_torch_prints_it(tmp_path: Path) -> None:
    uuid = "5a11ed00-1111-4222-8333-abcdefabcdef"
    printed = (
        f"_CudaDeviceProperties(name='NVIDIA A100', uuid={uuid}), CUDA_VISIBLE_DEVICES=MIG-GPU-{uuid}/1/0 MIG-{uuid}"
    )

    assert Redactor(tmp_path, {}).redact(printed) == (
        "_CudaDeviceProperties(name='NVIDIA A100', uuid=(uuid)), CUDA_VISIBLE_DEVICES=MIG-GPU-(redacted) MIG-(redacted)"
    )


def test_ordinary_words_of_a_message_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "vm")
    monkeypatch.setattr(pwd, "getpwuid", _no_entry)
    redactor = Redactor(tmp_path, {"USER": "root", "HOME": "/", "HOSTNAME": "localhost", "DEBUG_TOKEN": "1"})
    message = "root cause: user 1 on localhost; vm.max_map_count=1 00:00:00 GPU-Util 1:2:3"

    assert redactor.redact(message) == message


def test_a_name_is_taken_out_only_as_a_whole_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", _no_entry)
    redactor = Redactor(tmp_path, {"USER": "ann", "HOME": "/data/ann"})

    assert (
        redactor.redact("/data/ann/x /data/annex/y channel Ann ann_cache")
        == "~/x /data/annex/y channel (user) (user)_cache"
    )


def test_firmware_that_was_never_filled_in_is_no_secret(tmp_path: Path) -> None:
    redactor = Redactor(plant(tmp_path, {"sys/class/dmi/id/board_serial": "To Be Filled By O.E.M.\n"}), {})

    assert redactor.redact("To Be Filled By O.E.M.") == "To Be Filled By O.E.M."


@given(before=st.text(max_size=30), after=st.text(max_size=30))
def test_a_token_is_found_in_any_surroundings(before: str, after: str) -> None:
    redactor = Redactor(Path("/nonexistent"), {"HF_TOKEN": "hf_KanarienvogelTokenValue123"})

    assert "KanarienvogelTokenValue123" not in redactor.redact(f"{before}hf_KanarienvogelTokenValue123{after}")


def test_the_salt_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}

    first, second = load_salt(environ), load_salt(environ)

    assert isinstance(first, Known)
    assert first == second
    assert len(first.value) == 32
    assert stat.S_IMODE((tmp_path / "sdbench/salt").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "sdbench").iterdir()] == ["salt"]


def test_another_salt_gives_another_hmac() -> None:
    uuid, other_uuid = Known(value="GPU-1"), Known(value="GPU-2")
    salt, other_salt = Known(value=b"a" * 32), Known(value=b"b" * 32)

    assert hash_uuid(uuid, salt) == hash_uuid(uuid, salt)
    assert hash_uuid(uuid, salt) != hash_uuid(uuid, other_salt)
    assert hash_uuid(uuid, salt) != hash_uuid(other_uuid, salt)


def test_a_salt_that_cannot_be_kept_leaves_the_card_unnamed(tmp_path: Path) -> None:
    (tmp_path / "sdbench").write_text("a file where the folder should be")
    salt = load_salt({"XDG_STATE_HOME": str(tmp_path)})

    assert isinstance(salt, Unknown)
    assert str(tmp_path) not in salt.reason
    assert hash_uuid(Known(value="GPU-1"), salt) == salt


def test_a_salt_that_was_changed_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, {"sdbench/salt": "short"})

    assert "remove it" in str(load_salt({"XDG_STATE_HOME": str(tmp_path)}))


def test_variables_of_secrets_are_never_requested() -> None:
    assert software.read_environment({"CUDA_AUTH": "x", "NVIDIA_TOKEN": "y"}, Redactor(Path("/nonexistent"), {})) == ()


def _no_entry(uid: int) -> Any:
    raise KeyError(uid)


@pytest.mark.parametrize(
    "text",
    [
        "http://eu:CANARY@127.0.0.1:9/x",
        "s3://u:CANARY@h/b",
        'Invalid bucket name "u:CANARY@h"',
        "cannot reach u:CANARY@proxy:3128",
        "ssh://u:CANARY@h",
    ],
)
def test_credentials_of_addresses_are_taken_out(text: str) -> None:
    assert "CANARY" not in Redactor(Path("/nonexistent"), {}).redact(text)


def test_password_of_a_proxy_is_taken_out_alone() -> None:
    redactor = Redactor(Path("/nonexistent"), {"HTTPS_PROXY": "http://u:CANARYVALUE@proxy:3128"})
    assert redactor.redact("password CANARYVALUE refused") == "password (secret) refused"


@pytest.mark.parametrize(
    "name", ["DB_PASS", "FTP_PWD", "WANDB_KEY", "SENTRY_DSN", "SESSION_COOKIE", "SSH_PASSPHRASE", "NVIDIA_X_PASS"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert Redactor(Path("/nonexistent"), {name: "CANARYVALUE"}).redact("is CANARYVALUE") == "is (secret)"
    assert software.read_environment({name: "x"}, Redactor(Path("/nonexistent"), {})) == ()


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "KEYBOARD", "MONKEY", "PASSAGE", "OMP_NUM_THREADS"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "text", ["tests/test_a.py:12: error", "user@host", "12:30:01 started", "a:b", "https://host:9/x"]
)
def test_text_without_credentials_stays(text: str) -> None:
    assert strip_credentials(text) == text
