"""What a machine costs per hour, and so what images cost on it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sdbench.errors import UserError
from sdbench.schema.document import MAX_TEXT_BYTES, parse_yaml

_CURRENCY = r"[^\W\d_]{1,10}|[$€£¥]"
_PRICE = re.compile(
    rf"(?P<before>{_CURRENCY})?\s*(?P<number>[-+]?\d+(?:\.\d+)?)\s*(?P<after>{_CURRENCY})?\s*/\s*(?:h|hour)"
)
_EXAMPLES = "write for example 1.10/h, '1.10 EUR/h' or 'USD 1.10/h'"


@dataclass(frozen=True)
class Price:
    """An amount per hour, in a currency; its word is empty where none was given."""

    per_hour: float
    currency: str


@dataclass(frozen=True)
class Prices:
    """The price of one's own machines, and of those whose name contains a text."""

    own: Price | None = None
    by_name: Mapping[str, Price] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.own is not None or bool(self.by_name)

    def find(self, device: str, *, is_reference: bool) -> Price | None:
        """Return the price of a machine: of the longest text that its name contains, else that of one's own."""
        fitting = [text for text in self.by_name if text.lower() in device.lower()]
        if fitting:
            return self.by_name[max(fitting, key=len)]
        return None if is_reference else self.own


NO_PRICES = Prices()


def parse_price(text: str) -> Price:
    """Return the price written as ``1.10/h``, ``1.10 EUR/h`` or ``USD 1.10/h``.

    Raises:
        UserError: no amount per hour, a negative one, or two currencies.
    """
    match = _PRICE.fullmatch(text.strip())
    if match is None or (match["before"] and match["after"]):
        raise UserError(f"invalid price {text!r}: {_EXAMPLES}")
    per_hour = float(match["number"])
    if per_hour < 0:
        raise UserError(f"{text!r} is a negative price; {_EXAMPLES}")
    return Price(per_hour, match["before"] or match["after"] or "")


def load_prices(path: Path) -> Mapping[str, Price]:
    """Return the prices in a YAML file that maps a text contained in a device's name to a price.

    Raises:
        UserError: the file cannot be read, or an entry is not a price; the message starts with file:line:column.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_TEXT_BYTES + 1).decode()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: this is a binary file, not UTF-8 text; name a YAML file of prices") from None
    if not text.strip():
        raise UserError(f"{path}: the file is empty; write lines like 'RTX 3090: 0.50 EUR/h'")
    document = parse_yaml(text, str(path))
    if not isinstance(document.value, dict) or not document.value:
        raise UserError(f"{path}: no mapping of names to prices; write lines like 'RTX 3090: 0.50 EUR/h'")
    prices = {}
    for name, written in document.value.items():
        _, where = document.locate((name,))
        if not isinstance(written, str) or not str(name).strip():
            raise UserError(f"{where}: {name!r} has {written!r}, no price per hour; {_EXAMPLES}")
        try:
            prices[str(name)] = parse_price(written)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return prices


def make_prices(price: str | None, path: Path | None) -> Prices:
    """Return the prices that the options ``--price`` and ``--prices`` give.

    Raises:
        UserError: one of them is wrong.
    """
    return Prices(parse_price(price) if price is not None else None, load_prices(path) if path else {})
