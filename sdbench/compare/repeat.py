"""The command that repeats a run."""

import shlex
from collections.abc import Sequence

from sdbench.schema.base import Known
from sdbench.schema.record import Record


def make_command(record: Record, others: Sequence[Record] = ()) -> str:
    """Return the shell command that repeats a run; of one arm of a session, with what the other one set.

    The other arm is looked up among ``others``; where it is missing, three dots stand for what it set.
    """
    request, session = record.request, record.session
    if record.origin == "imported":
        settings = (word for setting in request.settings for word in f"--{setting}".split("=", maxsplit=1))
        return shlex.join(["sdbench", "import", request.manifest_name, *settings])
    own = _arm_settings(record)
    words = ["sdbench", "ab" if session else "run", request.manifest_name, "--device", request.device]
    words += [word for only in request.only for word in ("--only", only)]
    words += ["--weights", request.weights] if request.weights else []
    words += ["--budget", f"{request.budget_s:g}s"] if request.budget_s else []
    kept = [setting for setting in request.settings if setting not in own]
    words += [word for setting in _with_path(kept) for word in ("--set", setting)]
    if session is None:
        return shlex.join(words)
    arms = {
        other.session.arm: _arm_settings(other)
        for other in (record, *others)
        if other.session is not None and other.session.session_id == session.session_id
    }
    treatments = [f"--{arm} {shlex.quote(setting)}" for arm in ("a", "b") for setting in arms.get(arm, ("...",))]
    return " ".join([shlex.join(words), *treatments, f"--seed {session.seed}"])


def _with_path(settings: Sequence[str]) -> Sequence[str]:
    """Return settings with PATH in place of a pipeline that only its machine knows by name, as they were given."""
    if not any(setting.startswith("pipeline=") and "@" in setting for setting in settings):
        return settings
    # A path brings its own weights.
    implied = ("pipeline=", "hub_id=null", "revision=null", "weights=pretrained")
    return ["pipeline=PATH", *(setting for setting in settings if not setting.startswith(implied))]


def _arm_settings(record: Record) -> tuple[str, ...]:
    settings = record.session.settings if record.session else None
    return settings.value if isinstance(settings, Known) else ()
