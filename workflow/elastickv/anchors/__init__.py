"""Anchor rules choose the token that represents a group. Each file in this folder defines one, as `ANCHOR`.

The kernels' implementation of the same rule is kernels/anchors/<name>.h.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from elastickv.anchors.base import Anchor
from elastickv.errors import UsageError


@cache
def every() -> dict[str, Anchor]:
    """All rules by name, in their order. Raises UsageError if two files conflict."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    declared = {module.__name__.rpartition(".")[2]: module.ANCHOR for module in modules if hasattr(module, "ANCHOR")}
    return checked(declared)


def checked(declared: dict[str, Anchor]) -> dict[str, Anchor]:
    """Rules by file name, in their order. Raises UsageError with the fix."""
    numbers: dict[int, str] = {}
    for file, made in declared.items():
        if made.name != file:
            raise UsageError(f"anchors/{file}.py declares the anchor rule {made.name}; give both one name")
        if other := numbers.get(made.number):
            free = max(one.number for one in declared.values()) + 1
            raise UsageError(f"anchors/{other}.py and {file}.py both have the number {made.number}; {free} is free")
        numbers[made.number] = file
    return {made.name: made for made in sorted(declared.values(), key=lambda made: (made.order, made.name))}


def of(name: str) -> Anchor:
    """The rule of this name."""
    return every()[name]
