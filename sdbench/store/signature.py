"""Signatures of bundles, made and checked by OpenSSH's ``ssh-keygen -Y``."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sdbench.errors import EnvironmentProblem, RecordError, UserError

NAMESPACE = "sdbench"
SIGNATURE_ENDING = ".sig"
# A signature of the largest RSA key takes under 4 kB.
SIGNATURE_BYTES_MAX = 16 * 1024
_TIMEOUT_S = 60


class UnknownSigner(RecordError):
    """The signature is of these bytes, but by nobody whom the reader trusts."""


@dataclass(frozen=True)
class Signed:
    """Who signed, by the allowed signers' file, and the fingerprint of the key."""

    principal: str
    key: str


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of bytes by a key, or by the agent that holds the private half of a public one.

    Raises:
        UserError: no such key, or it cannot sign.
        EnvironmentProblem: OpenSSH is not installed.
    """
    if not key.is_file():
        raise UserError(
            f"--sign {key}: no such file; name a private key, or a public one whose other half an agent has"
        )
    with tempfile.TemporaryDirectory(prefix="sdbench-") as folder:
        message = Path(folder) / "bundle"
        message.write_bytes(content)
        done = _call("-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(message))
        if done.returncode != 0:
            raise UserError(
                f"--sign {key}: {_last_line(done)}; name a key that can sign, with its passphrase in an agent"
            )
        return message.with_name(message.name + SIGNATURE_ENDING).read_bytes()


def check_signature(content: bytes, signature: bytes, signers: Path, name: str) -> Signed:
    """Return who signed bytes; ``signers`` is an allowed signers file, as ``ssh-keygen`` describes it.

    Raises:
        RecordError: the signature is not of these bytes.
        UnknownSigner: it is, but by nobody in the file.
        UserError: the file cannot be read.
        EnvironmentProblem: OpenSSH is not installed.
    """
    if not signers.is_file():
        raise UserError(f"--signers {signers}: no such file; each line names a signer and a public key")
    with tempfile.TemporaryDirectory(prefix="sdbench-") as folder:
        file = Path(folder) / "signature"
        file.write_bytes(signature)
        options = ("-s", str(file), "-f", str(signers))
        found = _call("-Y", "find-principals", *options)
        principals = found.stdout.decode(errors="replace").split()
        if found.returncode != 0 or not principals:
            valid = _call("-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(file), content=content)
            if valid.returncode != 0:
                raise RecordError(f"{name}: the signature is not of these bytes ({_last_line(valid)}); do not trust it")
            raise UnknownSigner(f"{name}: signed by a key that {signers} does not name ({_last_line(valid)})")
        principal = principals[0].partition(",")[0]
        done = _call("-Y", "verify", *options, "-I", principal, "-n", NAMESPACE, content=content)
        if done.returncode != 0:
            raise RecordError(f"{name}: the signature is not of these bytes ({_last_line(done)}); do not trust it")
        key = done.stdout.decode(errors="replace").strip().rpartition(" ")[2]
        return Signed(principal, key)


def _call(*arguments: str, content: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    program = shutil.which("ssh-keygen")
    if program is None:
        raise EnvironmentProblem(
            "ssh-keygen is not installed; install OpenSSH's client: apt-get install openssh-client"
        )
    # Without a terminal it cannot ask for a passphrase, and fails instead of waiting.
    try:
        return subprocess.run(
            [program, *arguments], input=content, capture_output=True, timeout=_TIMEOUT_S, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        msg = f"ssh-keygen did not answer within {_TIMEOUT_S:g} s; a key that must be touched cannot sign here"
        raise EnvironmentProblem(msg) from None


def _last_line(done: "subprocess.CompletedProcess[bytes]") -> str:
    lines = (done.stderr + done.stdout).decode(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), f"exit code {done.returncode}")
