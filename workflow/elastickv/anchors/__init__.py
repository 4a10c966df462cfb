"""Which of a group's tokens stands for it: one file per rule, found because it is in this folder.

A file declares `ANCHOR`; the same rule for the kernels is kernels/anchors/<name>.h.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from elastickv.anchors.base import Anchor


@cache
def every() -> dict[str, Anchor]:
    """Every rule by its name, in their order. Raises ValueError where two files contradict each other."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    declared = {module.__name__.rpartition(".")[2]: module.ANCHOR for module in modules if hasattr(module, "ANCHOR")}
    return checked(declared)


def checked(declared: dict[str, Anchor]) -> dict[str, Anchor]:
    """Rules by the name of their file, in their order. Raises ValueError, with the fix."""
    numbers: dict[int, str] = {}
    for file, made in declared.items():
        if made.name != file:
            raise ValueError(f"anchors/{file}.py declares the anchor rule {made.name}; name both alike")
        if other := numbers.get(made.number):
            free = max(one.number for one in declared.values()) + 1
            raise ValueError(f"anchors/{other}.py and {file}.py both have the number {made.number}; {free} is free")
        numbers[made.number] = file
    return {made.name: made for made in sorted(declared.values(), key=lambda made: (made.order, made.name))}


def of(name: str) -> Anchor:
    """The rule of this name."""
    return every()[name]
