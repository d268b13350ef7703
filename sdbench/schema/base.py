"""The base of every stored model, and canonical JSON with its hash."""

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

T = TypeVar("T")


class Model(BaseModel):
    """Frozen, strict, closed to unknown fields, and without NaN or infinity."""

    # defer_build: a validator is built when its model is first used; `plan` uses few of them (0.1 s of CPU).
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the model as JSON types only."""
        return self.model_dump(mode="json")


class Known(Model, Generic[T]):
    """A value that was read."""

    status: Literal["known"] = "known"
    value: T


class Unknown(Model):
    """A value that could not be read, and why: never a default, and no evidence of equality with another."""

    status: Literal["unknown"] = "unknown"
    reason: Annotated[str, Field(min_length=1)]


if TYPE_CHECKING:
    Reading = Known[T] | Unknown
else:

    class Reading:
        """``Reading[T]`` is ``Known[T] | Unknown``: pydantic erases the parameter of a plain alias."""

        def __class_getitem__(cls, item: Any) -> Any:
            return Annotated[Known[item] | Unknown, Field(discriminator="status")]


PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
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
