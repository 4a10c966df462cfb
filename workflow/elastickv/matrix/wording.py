"""Formats key paths and values for messages: always on one line, shortened if long."""

from __future__ import annotations

import json
from typing import Any

KeyPath = tuple[str | int, ...]

_LONGEST_VALUE = 60
_LONGEST_KEY = 120
_KINDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "an integer", float: "a number"}


def dotted(path: KeyPath) -> str:
    """`matrices.sweep.axes.seq[2]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if part.isprintable() and 0 < len(part) <= _LONGEST_KEY else shown(part)
            text += f".{key}" if text else key
    return text


def shown(value: Any) -> str:
    """A value in JSON-like form."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def kind(value: Any) -> str:
    """The kind of a value in words: `a list`, `text`, ..."""
    return "empty (null)" if value is None else _KINDS.get(type(value), type(value).__name__)
