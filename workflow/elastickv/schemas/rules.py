"""Rules between the fields of a record, as JSON Schema fragments."""

from __future__ import annotations

from typing import Any

Rule = dict[str, Any]
NULL: Rule = {"type": "null"}
OBJECT: Rule = {"type": "object"}
NUMBER: Rule = {"type": "number"}
STRING: Rule = {"type": "string"}
TEXT: Rule = {"type": "string", "minLength": 1, "pattern": "\\S"}
TRUE: Rule = {"const": True}
EMPTY: Rule = {"maxItems": 0}
FILLED: Rule = {"minItems": 1}
RIGHT: Rule = {"properties": {"finite": TRUE, "written": TRUE, "relative_error": NUMBER}}


def has(*required: str, **fields: Rule) -> Rule:
    """An object whose fields match these schemas, if present."""
    return {"properties": fields} | ({"required": [*required]} if required else {})


def all_null(*names: str) -> dict[str, Rule]:
    """Fields that are null if present."""
    return dict.fromkeys(names, NULL)


def one_of(*values: Any) -> Rule:
    """One of these values."""
    return {"enum": [*values]}


def when(condition: Rule, then: Rule, otherwise: Rule | None = None) -> Rule:
    """Additional rules if the condition holds, and if it does not."""
    return {"if": condition, "then": then} | ({"else": otherwise} if otherwise else {})


def status(*names: str) -> Rule:
    """The condition that the status is one of the given ones."""
    return has(status=one_of(*names))


def reason_unless_ok() -> Rule:
    """Null when `ok`; a sentence otherwise."""
    return when(status("ok"), has(reason=NULL), has(reason=TEXT))


def rules(*all_of: Rule) -> dict[str, Any]:
    """The `json_schema_extra` of a model to which all given rules apply."""
    return {"allOf": [*all_of]}
