"""What all models share: strict objects, and a few kinds of field that occur in many of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import MISSING, BaseModel, ConfigDict, Field

LARGEST = 1e300  # finite: JSON texts such as 1e999 read as infinity


_COMMON = ConfigDict(
    frozen=True,
    regex_engine="python-re",
    serialize_by_alias=True,
    validate_by_name=True,
    json_schema_serialization_defaults_required=True,
    defer_build=True,  # most commands need few of the models
)


class Model(BaseModel):
    """An object that has the fields of its model and no others."""

    model_config = _COMMON | ConfigDict(extra="forbid")


class Open(BaseModel):
    """An object that may have further fields, such as what a device tells of itself."""

    model_config = _COMMON | ConfigDict(extra="allow")


def field(meaning: str = "", unit: str = "", words: str = "", unique: bool = False, **limits: Any) -> Any:
    """A field's meaning, unit and limits (`default`, `ge`, `gt`, `le`, `lt`, `min_length`, `pattern`, ...).

    words: what its pattern asks for, for messages; unique: a list that holds nothing twice.
    """
    extra = {"unit": unit, "$comment": words, "uniqueItems": unique}
    return Field(
        description=meaning or None, json_schema_extra={key: said for key, said in extra.items() if said}, **limits
    )


def version(name: str) -> Any:
    """The field `schema`: name and version of the record's format."""
    return Field(name, alias="schema")


def given(value: Any) -> Any:
    """The value of a field that a record may lack: None where it lacks it."""
    return None if value is MISSING else value


Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Time = Annotated[
    str,
    Field(description="ISO 8601, UTC", pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|\+00:00)$"),
]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
