"""``--where gpu=H100``: which runs are meant, by their facts."""

from collections.abc import Callable, Sequence

from sdbench.errors import UserError
from sdbench.plan.manifest_file import nearest
from sdbench.store.facts import Facts


def parse_conditions(texts: Sequence[str]) -> Callable[[Facts], bool]:
    """Return whether all conditions ``NAME=TEXT`` hold for a run: the fact contains the text, in any case.

    Raises:
        UserError: no such fact.
    """
    conditions = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not value:
            raise UserError(f"--where {text!r}: write NAME=TEXT, for example gpu=H100")
        if name not in Facts.__struct_fields__:
            raise UserError(f"--where {text!r}: no run has {name!r}; {nearest(name, Facts.__struct_fields__)}")
        conditions.append((name, value.casefold()))
    return lambda facts: all(value in _text(getattr(facts, name)) for name, value in conditions)


def _text(fact: object) -> str:
    return "" if fact is None else str(fact).casefold()
