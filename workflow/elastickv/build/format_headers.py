"""The headers that list the storage formats for the kernels (kernels/format.h), out of workflow/elastickv/formats."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from elastickv import formats, records
from elastickv.build import anchor_headers
from elastickv.errors import UsageError
from elastickv.formats.base import Format

FOLDER = Path("build/.formats")  # a fixed path, because compilers may include it in their output
LIST, CODE = "formats.h", "formats_code.h"


def facts(made: Format) -> str:
    """What of a format is written into the list: C++ name, number, bits, largest stored value (0: no scale)."""
    return f"{made.name.upper()}, {made.number}, {made.bits}, {float(made.largest or 0)}f"


def contents() -> dict[str, str]:
    """Name and content of both headers."""
    every = formats.every().values()
    lines = ["#pragma once", _macro("FORMATS", (facts(made) for made in every))]
    for bits in (16, 32):
        pairs = [
            (one, two)
            for one in every
            for two in every
            if one.bits == bits and not one.scaled and two.scaled and two.plain
        ]
        lines.append(_macro(f"MIXED_{bits}", (f"{_names(one)}, {_names(two)}" for one, two in pairs)))
    code = ["#pragma once", *(f'#include "formats/{made.name}.h"' for made in every)]
    return {LIST: "\n".join(lines) + "\n", CODE: "\n".join(code) + "\n"}


def _names(made: Format) -> str:
    return f"{made.name.upper()}, {made.name}"


def _macro(name: str, rows: Iterable[str]) -> str:
    return " ".join([f"#define ELASTICKV_{name}(X)", *(f"X({row})" for row in rows)])


def write(kernels: Path) -> Path:
    """The folder of the headers that list formats and anchor rules, written where they are not there yet.

    UsageError where one of them has no kernel header.
    """
    anchor_headers.check(kernels)
    folder = kernels / "formats"
    lacking = [name for name in formats.every() if folder.is_dir() and not (folder / f"{name}.h").is_file()]
    if lacking:
        raise UsageError(f"{folder / lacking[0]}.h is missing: it implements the format {lacking[0]} for the kernels")
    for name, content in (contents() | anchor_headers.contents()).items():
        path = FOLDER / name
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            records.write_text(path, content)
    return FOLDER
