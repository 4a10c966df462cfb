"""The headers that list the anchor rules for the kernels (kernels/anchor.h), out of workflow/elastickv/anchors."""

from __future__ import annotations

from pathlib import Path

from elastickv import anchors
from elastickv.anchors.base import Anchor
from elastickv.errors import UsageError

FOLDER, LIST, CODE = "anchors", "anchors.h", "anchors_code.h"


def facts(made: Anchor) -> str:
    """What of a rule is written into the list: C++ name and number."""
    return f"{made.name.upper()}, {made.number}"


def contents() -> dict[str, str]:
    """Name and content of both headers."""
    every = anchors.every().values()
    rules = " ".join(["#define ELASTICKV_ANCHORS(X)", *(f"X({facts(made)})" for made in every)])
    code = (f'#include "{FOLDER}/{made.name}.h"' for made in every)
    return {LIST: f"#pragma once\n{rules}\n", CODE: "\n".join(["#pragma once", *code]) + "\n"}


def check(kernels: Path) -> None:
    """Raises UsageError where a rule has no kernel header."""
    folder = kernels / FOLDER
    lacking = [name for name in anchors.every() if folder.is_dir() and not (folder / f"{name}.h").is_file()]
    if lacking:
        raise UsageError(
            f"{folder / lacking[0]}.h is missing: it implements the anchor rule {lacking[0]} for the kernels"
        )
