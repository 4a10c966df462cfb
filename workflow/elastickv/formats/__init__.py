"""Storage formats of cached key and value vectors. Each file in this folder defines one, as `FORMAT`.

The kernels' implementation of a format is kernels/formats/<name>.h.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module

from elastickv.errors import UsageError
from elastickv.formats.base import Format


@cache
def every() -> dict[str, Format]:
    """All formats by name, in their order. Raises UsageError if two files conflict."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    declared = {module.__name__.rpartition(".")[2]: module.FORMAT for module in modules if hasattr(module, "FORMAT")}
    return checked(declared)


def checked(declared: dict[str, Format]) -> dict[str, Format]:
    """Formats by file name, in their order. Raises UsageError with the fix."""
    numbers: dict[int, str] = {}
    for file, made in declared.items():
        if made.name != file:
            raise UsageError(f"formats/{file}.py declares the format {made.name}; give both one name")
        stated = re.search(r"\d+", made.name)
        if stated is None or int(stated[0]) != made.bits:
            raise UsageError(f"formats/{file}.py: the first number in a format's name must be its bits ({made.bits})")
        if made.per_head is not None and not made.scaled:
            raise UsageError(f"formats/{file}.py has per-head state, so it stores only middle slots and needs a scale")
        if other := numbers.get(made.number):
            free = max(one.number for one in declared.values()) + 1
            raise UsageError(f"formats/{other}.py and {file}.py both have the number {made.number}; {free} is free")
        numbers[made.number] = file
    return {made.name: made for made in sorted(declared.values(), key=lambda made: (made.order, made.name))}


def of(name: str) -> Format:
    """The format of this name."""
    return every()[name]


def of_names(*names: str) -> tuple[Format, ...]:
    """The formats with these names."""
    return tuple(map(of, names))


def exact() -> tuple[str, ...]:
    """Names of the formats for full caches, exact slots, queries and outputs."""
    return tuple(name for name, made in every().items() if not made.scaled)


def scaled() -> tuple[str, ...]:
    """Names of the formats with a scale per slot, which can store only middle slots."""
    return tuple(name for name, made in every().items() if made.scaled)


def listed(names: Iterable[str]) -> str:
    """A list in words: `int8, fp8_e4m3 or int4`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
