"""Signatures of bundles, made and checked by OpenSSH's ``ssh-keygen -Y``."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from sdbench.errors import EnvironmentProblem, RecordError, UserError

NAMESPACE = "sdbench"
SIGNATURE_ENDING = ".sig"
# A signature of the largest RSA key takes under 4 kB.
SIGNATURE_BYTES_MAX = 16 * 1024
_TIMEOUT_S = 60


class UnknownSigner(RecordError):
    """The signature is valid for these bytes, but the reader does not trust its key."""


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of bytes by a key, or by the agent that holds the private half of a public one.

    Raises:
        UserError: no such key, or it cannot sign.
        EnvironmentProblem: OpenSSH is not installed.
    """
    if not key.is_file():
        raise UserError(f"--sign {key}: no such file; name a private key, or a public one that ssh-agent has")
    with tempfile.TemporaryDirectory(prefix="sdbench-") as folder:
        message = Path(folder) / "bundle"
        message.write_bytes(content)
        done = _call("-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(message))
        if done.returncode != 0:
            raise UserError(f"--sign {key}: {_last_line(done)}; name a key that can sign, or add it to ssh-agent")
        return message.with_name(message.name + SIGNATURE_ENDING).read_bytes()


def check_signature(content: bytes, signature: bytes, signers: Path, name: str) -> tuple[str, str]:
    """Return who signed bytes, and the fingerprint of the key; ``signers`` is an allowed signers file of OpenSSH.

    Raises:
        RecordError: the signature is not of these bytes.
        UnknownSigner: it is, but the file does not list its key.
        UserError: the file cannot be read.
        EnvironmentProblem: OpenSSH is not installed.
    """
    if not signers.is_file():
        raise UserError(f"--signers {signers}: no such file; each line names a signer and a public key")
    with tempfile.TemporaryDirectory(prefix="sdbench-") as folder:
        file = Path(folder) / "signature"
        file.write_bytes(signature)
        options = ("-s", str(file), "-f", str(signers))
        principals = _call("-Y", "find-principals", *options)
        principal, _, _ = principals.stdout.decode(errors="replace").partition("\n")[0].partition(",")
        is_named = principals.returncode == 0 and bool(principal)
        how = ("verify", *options, "-I", principal) if is_named else ("check-novalidate", "-s", str(file))
        done = _call("-Y", *how, "-n", NAMESPACE, content=content)
        if done.returncode != 0:
            raise RecordError(f"{name}: the signature is not of these bytes ({_last_line(done)}); do not trust it")
        if not is_named:
            raise UnknownSigner(f"{name}: signed by a key that {signers} does not name ({_last_line(done)})")
        return principal, done.stdout.decode(errors="replace").strip().rpartition(" ")[2]


def _call(*arguments: str, content: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    program = shutil.which("ssh-keygen")
    if program is None:
        raise EnvironmentProblem("ssh-keygen is not installed; install it: apt-get install openssh-client")
    # Without a terminal it cannot ask for a passphrase, and fails instead of waiting.
    try:
        return subprocess.run(
            [program, *arguments], input=content, capture_output=True, timeout=_TIMEOUT_S, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        msg = f"ssh-keygen did not answer within {_TIMEOUT_S} s; a key that must be touched cannot sign here"
        raise EnvironmentProblem(msg) from None


def _last_line(done: "subprocess.CompletedProcess[bytes]") -> str:
    lines = (done.stderr + done.stdout).decode(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), f"exit code {done.returncode}")
