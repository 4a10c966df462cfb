"""Generates docs/matrix.md, the reference of config files, from the schema of the config."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from elastickv import anchors, formats, policies

HEAD = """# Config files: every key

This page is for looking up a key of a config file: its type, default, unit, allowed values and meaning.
[Getting started](getting-started.md#writing-a-matrix) shows how to write a matrix, and
[Architecture](architecture.md#the-command-line-of-snakemake) how several files and overrides combine.

Every key is optional and has a default. Unknown keys, duplicate keys and values of a wrong type are errors. The page
is generated from `workflow/elastickv/schemas/config.py` by `python -m elastickv.schemas.generate`; a test keeps it
current.

"""
SWEEP = """## `matrices.<name>`

{meaning} Case ids consist of the sweep's name and the values of its axes: `sweep-seq1024-compress2-int8`.

| key | type | meaning |
|---|---|---|
"""
FORMATS = """
## Storage formats

Values of `dtype`, `cache_dtype`, `key_dtype` and `value_dtype`. Formats with a scale can store only middle slots: each
key and each value has an additional fp16 scale (2 bytes), by which its elements are multiplied.

| name | bits per value | scale per slot | meaning |
|---|---|---|---|
"""
POLICIES = """
## Policies

The policy decides what the elastic cache of workload decode keeps. A case has only the keys of its policy.

| name | keys | meaning |
|---|---|---|
"""
ANCHORS = """
## Anchor rules

The anchor rule (`anchor`) chooses the token that represents a group of tokens in one slot.

| name | meaning |
|---|---|
"""
COLUMNS = "| key | type | default | unit | allowed | meaning |\n|---|---|---|---|---|---|\n"
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
NO_DEFAULT = {  # keys that default to another key's value
    "kv_heads": "heads",
    "cache_dtype": "dtype",
    "key_dtype": "cache_dtype",
    "value_dtype": "cache_dtype",
}


def page(schema: dict[str, Any]) -> str:
    """The whole page."""
    sections = [_section("top level", schema["description"], _scalars(schema))]
    for name, definition in _sections(schema):
        sections.append(_section(f"`{name}`", definition["description"], definition["properties"]))
    return HEAD + "\n".join([*sections, _sweeps(schema)]) + _formats() + _policies() + _anchors()


def _formats() -> str:
    rows = (
        f"| `{name}` | {one.bits} | {'yes' if one.scaled else ''} | {one.meaning} |\n"
        for name, one in formats.every().items()
    )
    return FORMATS + "".join(rows)


def _policies() -> str:
    rows = (
        f"| `{name}`{' (the default)' if name == policies.DEFAULT else ''} | "
        f"{', '.join(f'`{key}`' for key in one.KEYS)} | {one.MEANING} |\n"
        for name, one in policies.every().items()
    )
    return POLICIES + "".join(rows)


def _anchors() -> str:
    return ANCHORS + "".join(f"| `{name}` | {one.meaning} |\n" for name, one in anchors.every().items())


def _sections(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(dotted key, definition) of each mapping with fixed keys, except those of cases and sweeps."""
    for key, part in schema["properties"].items():
        if "$ref" not in part:
            continue
        definition = _definition(schema, part)
        if key == "baselines":
            for name, inner in definition["properties"].items():
                yield f"{key}.{name}", _definition(schema, inner)
        else:
            title = "defaults` and `cases.<id>" if key == "defaults" else key
            yield title, definition


def _definition(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][part["$ref"].rpartition("/")[2]]


def _scalars(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in schema["properties"].items() if "$ref" not in part}


def _section(title: str, meaning: str, keys: dict[str, Any]) -> str:
    return f"## {title}\n\n{meaning}\n\n{COLUMNS}" + "".join(_row(key, part) for key, part in keys.items())


def _row(key: str, part: dict[str, Any]) -> str:
    cells = [f"`{key}`", _type(part), _default(key, part), part.get("unit", ""), _allowed(part), part["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(part: dict[str, Any]) -> str:
    if part["type"] == "array":
        return f"list of {_type(part['items'])}"
    names = part["type"] if isinstance(part["type"], list) else [part["type"]]
    words = {"string": "text", "boolean": "true or false", "object": "mapping"}
    return " or ".join(words.get(name, name) for name in names)


def _default(key: str, part: dict[str, Any]) -> str:
    if "default" not in part:
        return f"value of `{NO_DEFAULT[key]}`" if key in NO_DEFAULT else ""
    value = part["default"]
    if isinstance(value, list):
        return "all" if value == part["items"].get("enum") else ", ".join(f"`{item}`" for item in value)
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _allowed(part: dict[str, Any]) -> str:
    values = part.get("enum") or part.get("items", {}).get("enum")
    if values:
        return ", ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in values)
    words = [text.format(part[key]) for key, text in BOUNDS.items() if key in part]
    words += [f"multiple of {part['multipleOf']}"] if "multipleOf" in part else []
    names = part.get("propertyNames", part)
    words += [f"at most {names['maxLength']} characters"] if "maxLength" in names else []
    comment = part.get("$comment") or part.get("items", {}).get("$comment")
    return ", ".join([*words, *([comment] if comment else [])])


def _sweeps(schema: dict[str, Any]) -> str:
    matrix = schema["$defs"]["Matrix"]
    kinds = {"base": "keys of a case", "axes": "lists of values by the keys of a case"}
    rows = [
        f"| `{key}` | {kinds.get(key, 'list of keys of a case')} | {_meaning(schema, part)} |\n"
        for key, part in matrix["properties"].items()
    ]
    return SWEEP.format(meaning=matrix["description"]) + "".join(rows)


def _meaning(schema: dict[str, Any], part: dict[str, Any]) -> str:
    return part.get("description") or _definition(schema, part)["description"]
