"""Base classes of the models, and field types that many of them use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import MISSING, BaseModel, ConfigDict, Field, RootModel, WrapValidator

LARGEST = 1e300  # largest number: JSON text such as 1e999 would be read as infinity


_COMMON = ConfigDict(
    frozen=True,
    regex_engine="python-re",
    serialize_by_alias=True,
    validate_by_name=True,
    json_schema_serialization_defaults_required=True,
    defer_build=True,  # most commands use only a few of the models
)


class Model(BaseModel):
    """An object with exactly the fields of its model."""

    model_config = _COMMON | ConfigDict(extra="forbid")


class Open(BaseModel):
    """An object that may have additional fields, such as facts that a device reports."""

    model_config = _COMMON | ConfigDict(extra="allow")


def field(meaning: str = "", unit: str = "", words: str = "", unique: bool = False, **limits: Any) -> Any:
    """A field's meaning, unit and limits (`default`, `ge`, `gt`, `le`, `lt`, `min_length`, `pattern`, ...).

    words: description of its pattern, for messages; unique: whether list items must be distinct.
    """
    extra = {"unit": unit, "$comment": words, "uniqueItems": unique}
    return Field(
        description=meaning or None, json_schema_extra={key: text for key, text in extra.items() if text}, **limits
    )


def optional(*meaning: str, **limits: Any) -> Any:
    """As `field`, for a field that a record may lack."""
    return field(*meaning, default=MISSING, **limits)


def version(name: str) -> Any:
    """The field `schema`: name and version of the record's format."""
    return Field(name, alias="schema")


def given(value: Any) -> Any:
    """The value of an optional field, or None if the record does not have it."""
    return None if value is MISSING else value


def present(model: BaseModel) -> dict[str, Any]:
    """The fields that a record has, without the optional ones that it lacks."""
    return {name: value for name, value in model if value is not MISSING}


def at(model: BaseModel | None, names: Iterable[str]) -> Any:
    """The value at a path of nested field names; None if any part is absent or null."""
    value: Any = model
    for name in names:
        value = given(getattr(value.root if isinstance(value, RootModel) else value, name, None))
    return value


def _as_it_was(value: Any, check: Callable[[Any], float]) -> float:
    """A validated number that stays an integer if it was one, so that 4096 is not written as 4096.0."""
    check(value)
    return value


Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Time = Annotated[
    str, Field(description="ISO 8601, UTC", pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|\+00:00)$")
]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), WrapValidator(_as_it_was)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
