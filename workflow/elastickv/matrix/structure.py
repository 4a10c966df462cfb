"""Checks a merged config against schemas/config.schema.json. Each message names the fault, its place and the fix."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from functools import cache
from typing import Any

from elastickv.matrix.layers import Layers, touches
from elastickv.matrix.wording import KeyPath, kind, shown
from elastickv.schemas.base import Model
from elastickv.schemas.config import Measure

_TYPES = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "text"}
_TYPES |= {"object": "a mapping", "array": "a list", "null": "null"}
_ID_SHAPE = "lower-case letters, digits, '_', '.' and '-', start with a letter or digit and have at most 100 characters"
_ID_RULE = f"is not a valid id: ids consist of {_ID_SHAPE}"
_LEAST_LIKENESS = 50  # percent; below it no key is suggested


def is_integer(_checker: Any, value: Any) -> bool:
    """Whether a value is an integer; unlike in JSON Schema, true and 64.0 are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(_checker: Any, value: Any) -> bool:
    """Whether a value is a finite number; truth values are not numbers."""
    return is_integer(None, value) or (isinstance(value, float) and math.isfinite(value))


@cache
def _schema() -> dict[str, Any]:
    from elastickv import records
    from elastickv.schemas import generate

    generate.renew()
    return records.schema("config")


@cache
def _validator(definition: type[Model] | None) -> Any:
    import jsonschema

    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine("integer", is_integer).redefine("number", is_finite)
    schema = (
        _schema() if definition is None else {"$ref": f"#/$defs/{definition.__name__}", "$defs": _schema()["$defs"]}
    )
    return jsonschema.validators.extend(base, type_checker=types)(schema)


def faults(
    value: Any, definition: type[Model] | None = None, lost: Set[KeyPath] = frozenset()
) -> Iterator[tuple[KeyPath, str]]:
    """(key path, message) of each fault of a config, or of the part that one model describes.

    An unknown or badly named key is reported at its own path. lost: places with unknown values, in which missing keys
    are not reported.
    """
    for error in sorted(_validator(definition).iter_errors(value), key=_order):
        path = tuple(error.absolute_path)
        if error.validator in ("required", "minProperties") and touches(path, lost):
            continue
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in (key for key in error.instance if key not in error.schema["properties"]):
                yield (*path, key), unknown_key(key, known)
        elif "propertyNames" in error.absolute_schema_path:
            yield (*path, error.instance), _ID_RULE
        elif error.validator == "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            yield path, f"lacks {', '.join(missing)}"
        elif error.validator == "minProperties":
            yield path, "is empty; it must have at least one key"
        else:
            yield path, f"must be {allowed(error.schema)}, not {_described(error.instance, error.schema)}"


@cache
def _id_validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(_schema()["properties"]["cases"]["propertyNames"])


def sweep_id_problem(ids: list[str]) -> str | None:
    """Why ids of a sweep are invalid, shown for the longest one; None if all are valid."""
    wrong = [case_id for case_id in ids if not _id_validator().is_valid(case_id)]
    if not wrong:
        return None
    longest = max(wrong, key=len)
    more = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
    return (
        f"produces the id {longest} of {len(longest)} characters{more}; ids consist of {_ID_SHAPE}: "
        "shorten the sweep's name, or move axes with one value to base"
    )


def problems(layers: Layers) -> tuple[list[str], set[KeyPath]]:
    """Messages for unreadable parts of the config and for structural faults, and the key paths that they concern."""
    found = list(dict.fromkeys(faults(layers.tree, lost=layers.lost)))  # one key may violate several rules
    messages = [*layers.problems, *(layers.problem(path, text) for path, text in found)]
    return messages, layers.lost | {path for path, _ in found}


def unknown_key(key: str, known: list[str]) -> str:
    """`unknown key` with the most similar known key, if any, and all known keys."""
    if key in Measure.model_fields and "measure" in known:
        return f"unknown key here; it belongs in measure: {{{key}: ...}}"
    near = nearest(key, known)
    hint = f"did you mean {near}? " if near else ""
    return f"unknown key; {hint}known here: {', '.join(known)}"


def nearest(name: str, known: list[str]) -> str | None:
    """The most similar known name, or None if none is similar."""
    from rapidfuzz import fuzz, process

    found = process.extractOne(name.lower(), known, scorer=fuzz.ratio, score_cutoff=_LEAST_LIKENESS)
    return found[0] if found else None


def allowed(schema: dict[str, Any]) -> str:
    """The values that a schema allows, in words: `an integer from 1 to 65535, a multiple of 4`."""
    if "enum" in schema:
        return "one of " + ", ".join("null" if value is None else str(value) for value in schema["enum"])
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    text = " or ".join(_TYPES[name] for name in types)
    bounds = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "exclusiveMaximum": "and below {}",
    }
    ranges = [words.format(schema[key]) for key, words in bounds.items() if key in schema]
    extras = []
    if "multipleOf" in schema:
        extras.append(f"a multiple of {schema['multipleOf']}")
    if schema.get("uniqueItems"):
        extras.append("none twice")
    if "minItems" in schema or "minLength" in schema:
        extras.append("not empty")
    for key, words in {"maxItems": "at most {} entries", "maxLength": "at most {} characters"}.items():
        if key in schema:
            extras.append(words.format(schema[key]))
    if "pattern" in schema:
        extras.append(schema.get("$comment", f"matching {schema['pattern']}"))
    return ", ".join([" ".join([text, *ranges]), *extras])


def _described(value: Any, schema: dict[str, Any]) -> str:
    if isinstance(value, str):
        number = not schema.get("enum") and schema.get("type") in ("integer", "number", "boolean")
        return f"{shown(value)}, which is text" if number else shown(value)
    if isinstance(value, dict | list):
        return f"{kind(value)}, {shown(value)}"
    if value is None:
        return kind(value)
    return f"{shown(value)} (put it in quotes for text)" if schema.get("type") == "string" else shown(value)


def _order(error: Any) -> list[str]:
    return [str(part) for part in error.absolute_path]
