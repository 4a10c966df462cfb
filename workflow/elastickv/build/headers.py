"""Generated headers that list storage formats, anchor rules and kernels: to add one is to add its files.

kernels/format.h and kernels/anchor.h say what the lists of formats and rules hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from elastickv import anchors, formats, records
from elastickv.anchors.base import Anchor
from elastickv.device import params
from elastickv.errors import UsageError
from elastickv.formats.base import Format

FOLDER = Path("build/.headers")  # a fixed path, because compilers may include it in their output
SOURCES = {"cuda": "kernel.cu", "cpu": "kernel.cpp"}
OF_FORMATS, OF_ANCHORS = "formats.h", "anchors.h"


def format_facts(made: Format) -> str:
    """What the list says of a format: C++ name, number, bits, largest stored value (0: no scale)."""
    return f"{made.name.upper()}, {made.number}, {made.bits}, {float(made.largest or 0)}f"


def anchor_facts(made: Anchor) -> str:
    """What the list says of an anchor rule: C++ name and number."""
    return f"{made.name.upper()}, {made.number}"


def contents() -> dict[str, str]:
    """Name and content of the headers on formats and anchor rules."""
    stored, rules = formats.every().values(), anchors.every().values()
    lists = ["#pragma once", _macro("FORMATS", map(format_facts, stored))]
    for bits in (16, 32):
        exact = [one for one in stored if one.bits == bits and not one.scaled]
        pairs = [(one, two) for one in exact for two in stored if two.scaled and two.plain]
        rows = (f"{one.name.upper()}, {one.name}, {two.name.upper()}, {two.name}" for one, two in pairs)
        lists.append(_macro(f"MIXED_{bits}", rows))
    return {
        OF_FORMATS: "\n".join(lists) + "\n",
        "formats_code.h": _includes(f"formats/{made.name}.h" for made in stored),
        OF_ANCHORS: "\n".join(["#pragma once", _macro("ANCHORS", map(anchor_facts, rules))]) + "\n",
        "anchors_code.h": _includes(f"anchors/{made.name}.h" for made in rules),
    }


def sources(backend: str, kernels: Path) -> dict[str, Path]:
    """The source of every kernel that a backend has, by name, sorted. UsageError for a folder badly named."""
    found = {path.parent.name: path for path in sorted(kernels.glob(f"*/{SOURCES[backend]}"))}
    wrong = [path for name, path in found.items() if not name.isidentifier()]
    if wrong:
        raise UsageError(f"{wrong[0].parent}: the folder of a kernel must be named by letters, digits and underscores")
    return found


def of_kernels(backend: str, kernels: Path) -> str:
    """The list of a backend's kernels: an include for each, and `ELASTICKV_KERNELS(X)`: `X(name, Block)` for each."""
    names = [*sources(backend, kernels)]
    rows = (f"X({name}, {params.block_name(name)})" for name in names)
    macro = " ".join(["#define ELASTICKV_KERNELS(X)", *rows])
    return _includes(f"{name}/{SOURCES[backend]}" for name in names) + macro + "\n"


def write(backend: str, kernels: Path) -> None:
    """Writes all headers to FOLDER. UsageError where a format or an anchor rule has no kernel header."""
    for folder, names in (("formats", formats.every()), ("anchors", anchors.every())):
        lacking = [name for name in names if not (kernels / folder / f"{name}.h").is_file()]
        if lacking and (kernels / folder).is_dir():
            path = kernels / folder / f"{lacking[0]}.h"
            raise UsageError(f"{path} is missing: it implements {lacking[0]} for the kernels")
    for name, content in (contents() | {f"kernels_{backend}.h": of_kernels(backend, kernels)}).items():
        records.write_text(FOLDER / name, content)


def _macro(name: str, rows: Iterable[str]) -> str:
    return " ".join([f"#define ELASTICKV_{name}(X)", *(f"X({row})" for row in rows)])


def _includes(files: Iterable[str]) -> str:
    return "\n".join(["#pragma once", *(f'#include "{file}"' for file in files)]) + "\n"
