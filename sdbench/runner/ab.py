"""Two arms measured now, interleaved: ABBA or BAAB in fresh processes, until every experiment is resolved."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sdbench.compare.comparability import find_other_work
from sdbench.compare.policy import MARGIN
from sdbench.errors import UserError
from sdbench.plan.make_plan import Plan, PlanRequest, make_plan
from sdbench.privacy import Redactor, is_secret_name
from sdbench.runner.environments import PACKAGES, WHEELS, CannotInstall, check_imports, open_environment
from sdbench.runner.events import Listener
from sdbench.runner.interleave import interleave
from sdbench.runner.spec import RunSpec
from sdbench.runner.template import TEMPLATE_COMMAND
from sdbench.runner.worker_process import WORKER_COMMAND
from sdbench.schema.base import Known
from sdbench.schema.record import Session
from sdbench.store.run import Run

_ARMS: tuple[Literal["a", "b"], Literal["a", "b"]] = ("a", "b")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEED_BITS = 32


class ArmCannotRun(UserError):
    """An arm, "a" or "b", cannot run here, with the reason."""

    def __init__(self, arm: str, reason: str) -> None:
        """Say which arm it is, and why."""
        super().__init__(f"arm {arm.upper()} cannot run here: {reason}")
        self.arm = arm
        self.reason = reason


class IdenticalArms(ArmCannotRun):
    """Both arms do the same although they were written differently; ``shown`` is how."""

    def __init__(self, shown: str) -> None:
        """Say what both arms set."""
        super().__init__("b", "it does the same as the first arm")
        why = f"both arms are identical: {shown} is what the manifest has"
        self.args = (f"{why}; set different values, or the same one in both arms to measure the noise (A/A)",)


def run_ab(  # noqa: PLR0913 - named, but for the two that make the question
    request: PlanRequest,
    arms: tuple[Sequence[str], Sequence[str]],
    *,
    out: Path,
    margin: float = MARGIN,
    seed: int | None = None,
    fresh: bool = False,
    listener: Listener = lambda _event: None,
) -> tuple[Run, Run]:
    """Measure two settings of one request, interleaved, and return the finished runs of both arms.

    The arms set ``KEY=VALUE`` options, ``env.NAME=VALUE`` for the workers' environment, or ``packages=LOCK`` or
    ``wheels=FOLDER`` for Python packages of their own. ``margin`` is the ratio that
    is too small to matter, 0.02 for 2 %; ``seed`` sets the order of the arms and is random by default.

    Raises:
        UserError: a setting is invalid, or no verdict can come of the arms: they have different numbers of experiments,
            do different work, are the same without the same settings, or one cannot run here.
        EnvironmentProblem: the disk is full or the folder not writable; what was finished before is kept.
    """
    own_seed = seed is not None
    seed = secrets.randbits(_SEED_BITS) if seed is None else seed
    session_id = secrets.token_hex(8)
    specs = [
        replace(spec, session=make_session(session_id, name, seed, _name_own_pipeline(own, spec.plan)), fresh=fresh)
        for name, own in zip(_ARMS, arms, strict=True)
        for spec in (_arm_spec(request, name, own, out),)
    ]
    counts = [len(spec.plan.planned) for spec in specs]
    if counts[0] != counts[1]:
        raise UserError(
            f"arm A has {counts[0]} experiments and arm B {counts[1]}; "
            "choose the same ones with --only, or set an option that the manifest does not vary"
        )
    _refuse_without_verdict((specs[0], specs[1]), arms)
    return interleave((specs[0], specs[1]), margin, listener, own_seed=own_seed)


def _arm_spec(request: PlanRequest, name: str, own: Sequence[str], out: Path) -> RunSpec:
    """What an arm runs; its own settings override those of both."""
    environments = [setting for setting in own if setting.partition("=")[0] in (PACKAGES, WHEELS)]
    settings, environment = _split_settings(name, [setting for setting in own if setting not in environments])
    keys = {setting.partition("=")[0] for setting in settings}
    common = [setting for setting in request.settings if setting.partition("=")[0] not in keys]
    plan = make_plan(replace(request, settings=(*common, *settings)))
    spec = RunSpec(plan, out, environment=environment)
    return _with_python(spec, name, environments) if environments else spec


def _with_python(spec: RunSpec, name: str, settings: Sequence[str]) -> RunSpec:
    """An arm whose workers run in an environment of its own, which was built and has imported its libraries."""
    if len(settings) > 1:
        raise UserError(f"--{name} has {' and '.join(settings)}: an arm has one environment; keep one of them")
    try:
        python = open_environment(settings[0], spec.cache_folder)
        check_imports(python, {item.experiment.backend for item in spec.plan.planned})
    except CannotInstall as problem:
        raise ArmCannotRun(name, str(problem)) from None
    executable = str(python.executable)
    return replace(
        spec,
        python=python,
        environment={**python.variables, **spec.environment},
        worker_command=(executable, *WORKER_COMMAND[1:]),
        template_command=(executable, *TEMPLATE_COMMAND[1:]),
    )


def _name_own_pipeline(own: Sequence[str], plan: Plan) -> list[str]:
    """Return the settings of an arm with the name of a pipeline that was set by its path."""
    named = [setting for setting in plan.request.settings if setting.startswith("pipeline=")]
    return [named[-1] if setting.startswith("pipeline=") else setting for setting in own]


def _refuse_without_verdict(specs: tuple[RunSpec, RunSpec], arms: tuple[Sequence[str], Sequence[str]]) -> None:
    """Refuse arms that could be measured but never judged."""
    pairs = list(zip(*(spec.plan.planned for spec in specs), strict=True))
    for first, second in pairs:
        if first.experiment.workload == "precision":
            raise UserError("workload: precision times nothing, and ab compares times; measure it with sdbench run")
        if (work := find_other_work(first.experiment, second.experiment)) is not None:
            names, why = work
            setting = _find_setting(arms, names) or names[0]
            raise UserError(
                f"{setting}: the arms would do different work, {why}, which gives no verdict; "
                f"set {names[0]} for both with --set, or measure its values with sdbench run"
            )
    same = all(getattr(specs[0], name) == getattr(specs[1], name) for name in ("environment", "python"))
    same = same and specs[0].plan.planned == specs[1].plan.planned
    if same and sorted(arms[0]) != sorted(arms[1]):
        shown = " and ".join(" ".join(arm) or "nothing set" for arm in arms)
        raise IdenticalArms(shown)
    for name, spec in zip(_ARMS, specs, strict=True):
        if len(spec.plan.skipped) == len(pairs):
            skip = next(iter(spec.plan.skipped.values()))
            raise ArmCannotRun(name, f"{skip.reason}; {skip.hint}")


def _find_setting(arms: tuple[Sequence[str], Sequence[str]], names: Sequence[str]) -> str | None:
    """Return the option that sets one of ``names``, as it was written: arm B's, else arm A's."""
    written = [(f"--{name} {setting}", setting) for name, arm in zip(_ARMS, arms, strict=True) for setting in arm]
    return next((text for text, setting in reversed(written) if setting.partition("=")[0] in names), None)


def _split_settings(name: str, own: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    settings, environment = [], {}
    for assignment in own:
        key, equals, value = assignment.partition("=")
        if not key.startswith("env."):
            settings.append(assignment)
            continue
        variable = key.removeprefix("env.")
        if not equals or not _VARIABLE_NAME.fullmatch(variable):
            raise UserError(
                f"invalid --{name} {assignment!r}: expected env.NAME=VALUE, for example env.OMP_NUM_THREADS=1"
            )
        environment[variable] = value
    return settings, environment


def make_session(session_id: str, arm: Literal["a", "b"], seed: int, settings: Sequence[str]) -> Session:
    """Return what the record of an arm says of the session, with secrets in its settings hidden."""
    redactor = Redactor()
    shown = tuple(redactor.redact(hide_secret(setting)) for setting in settings)
    return Session(session_id=session_id, arm=arm, seed=seed, settings=Known(value=shown))


def hide_secret(setting: str) -> str:
    """Return a setting with its value hidden if its name is that of a secret."""
    name, _, value = setting.partition("=")
    return f"{name}=(secret)" if value and is_secret_name(name) else setting
