"""``--where gpu=H100``: the runs whose facts match."""

from collections.abc import Callable, Sequence

from sdbench.errors import UserError
from sdbench.plan.manifest_file import nearest
from sdbench.schema.record import Record
from sdbench.store.summary import FACTS


def parse_conditions(texts: Sequence[str]) -> Callable[[Record], bool]:
    """Return whether all conditions ``NAME=TEXT`` hold for a run: the fact contains the text, in any case.

    Raises:
        UserError: no such fact.
    """
    conditions = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not value:
            raise UserError(f"--where {text!r}: write NAME=TEXT, for example gpu=H100")
        if name not in FACTS:
            raise UserError(f"--where {text!r}: no run has {name!r}; {nearest(name, FACTS)}")
        conditions.append((name, value.casefold()))
    return lambda record: all(value in _text(FACTS[name](record)) for name, value in conditions)


def _text(fact: object) -> str:
    return "" if fact is None else str(fact).casefold()
