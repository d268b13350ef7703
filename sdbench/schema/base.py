"""The base of every stored model, and canonical JSON with its hash."""

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

T = TypeVar("T")

# Bounds of stored numbers: products and ratios of any two survive as floats, and 64 bits hold the integers.
NUMBER_MAX = 1e30
INTEGER_MAX = 2**63 - 1


# defer_build: a validator is built when its model is first used; `plan` uses few of them (0.1 s of CPU).
_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)

_NO_NAMES: set[str] = set()


class Model(BaseModel):
    """Frozen, strict, closed to unknown fields, and without NaN or infinity."""

    model_config = _CONFIG | ConfigDict(frozen=True)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the model as JSON types only, with keys as they are stored."""
        return self.model_dump(mode="json", by_alias=True)


class Compact(Model):
    """A model of which a record holds thousands, without the set of given names that pydantic keeps in each.

    That set is half the memory of a large record. ``model_fields_set`` is empty.
    """

    def model_post_init(self, _context: Any, /) -> None:
        """Replace the set by one that all instances share."""
        object.__setattr__(self, "__pydantic_fields_set__", _NO_NAMES)


# Dataclasses with slots, because a record of 1,000 experiments holds 200,000 of them: 50 bytes each, not 500.
@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Known(Generic[T]):
    """A value that was read."""

    status: Literal["known"] = Field(default="known", description="Always known.")
    value: T = Field(description="The value that was read.")

    @field_validator("value")
    @classmethod
    def _is_bounded(cls, value: T) -> T:
        limit = INTEGER_MAX if isinstance(value, int) else NUMBER_MAX
        if isinstance(value, int | float) and abs(value) > limit:
            msg = f"a number beyond {limit:g}"
            raise ValueError(msg)
        return value


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Unknown:
    """A value that could not be read: never a default, and not evidence of equality with another."""

    status: Literal["unknown"] = Field(default="unknown", description="Always unknown.")
    reason: Annotated[str, Field(min_length=1)] = Field(description="Why the value could not be read.")


if TYPE_CHECKING:
    Reading = Known[T] | Unknown
else:

    class Reading:
        """``Reading[T]`` is ``Known[T] | Unknown``: pydantic erases the parameter of a plain alias."""

        def __class_getitem__(cls, item: Any) -> Any:
            return Annotated[Known[item] | Unknown, Field(discriminator="status")]


Number = Annotated[float, Field(ge=-NUMBER_MAX, le=NUMBER_MAX, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, le=NUMBER_MAX, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0, le=INTEGER_MAX)]
Count = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces, the same on every machine.

    Raises:
        ValueError: the value holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
