"""How a cached key or value vector is stored: one file per format, found because it is in this folder.

A file declares `FORMAT`; what the kernels do with it lies in kernels/formats/<name>.h.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module

from elastickv.formats.base import Format


@cache
def every() -> dict[str, Format]:
    """Every format by its name, in their order. Raises ValueError where two files contradict each other."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    declared = {module.__name__.rpartition(".")[2]: module.FORMAT for module in modules if hasattr(module, "FORMAT")}
    return checked(declared)


def checked(declared: dict[str, Format]) -> dict[str, Format]:
    """Formats by the name of their file, in their order. Raises ValueError, with the fix."""
    numbers: dict[int, str] = {}
    for file, made in declared.items():
        if made.name != file:
            raise ValueError(f"formats/{file}.py declares the format {made.name}; name both alike")
        stated = re.search(r"\d+", made.name)
        if stated is None or int(stated[0]) != made.bits:
            raise ValueError(f"formats/{file}.py: the first number of a format's name is its bits ({made.bits})")
        if made.per_head is not None and not made.scaled:
            raise ValueError(f"formats/{file}.py keeps something per head, so it is for middle slots and needs a scale")
        if other := numbers.get(made.number):
            free = max(one.number for one in declared.values()) + 1
            raise ValueError(f"formats/{other}.py and {file}.py both have the number {made.number}; {free} is free")
        numbers[made.number] = file
    return {made.name: made for made in sorted(declared.values(), key=lambda made: (made.order, made.name))}


def of(name: str) -> Format:
    """The format of this name."""
    return every()[name]


def of_names(*names: str) -> tuple[Format, ...]:
    """The formats of these names."""
    return tuple(map(of, names))


def exact() -> tuple[str, ...]:
    """Names of the formats that may store a full cache, queries and outputs."""
    return tuple(name for name, made in every().items() if not made.scaled)


def scaled() -> tuple[str, ...]:
    """Names of the formats with a scale per slot, for middle slots."""
    return tuple(name for name, made in every().items() if made.scaled)


def listed(names: Iterable[str]) -> str:
    """`int8, fp8_e4m3 or int4`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
