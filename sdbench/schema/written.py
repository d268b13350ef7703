"""Models of what a manifest writes: the fields of another model, each optional, and which of them were written."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer

from sdbench.schema.base import Model


class Written(Model):
    """The fields that were written, of those of the model ``of``; the others have no value."""

    of: ClassVar[type[Model]]

    @property
    def values(self) -> dict[str, Any]:
        """The written fields, in the order of the model."""
        return {name: value for name, value in self if name in self.model_fields_set}

    @model_serializer(mode="wrap")
    def _keep_what_was_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


def make_written(name: str, model: type[Model], names: Iterable[str], *, doc: str, lists: bool = False) -> Any:
    """Return a model with some fields of ``model``, each optional; with ``lists`` each holds one or more values."""
    fields: dict[str, Any] = {}
    for field_name in names:
        field = model.model_fields[field_name]
        annotation: Any = field.annotation
        if field.metadata:
            annotation = Annotated[annotation, *field.metadata]
        if lists:
            annotation = Annotated[tuple[annotation, ...], Field(min_length=1)]
        written = Field(default=None, description=field.description, json_schema_extra=_drop_default)
        fields[field_name] = (annotation, written)
    made = create_model(name, __base__=Written, __doc__=doc, __module__=__name__, **fields)
    made.of = model
    return made


def _drop_default(schema: dict[str, Any]) -> None:
    """A field that was not written has no value, so it has no default either."""
    schema.pop("default", None)
