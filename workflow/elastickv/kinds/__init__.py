"""Kinds of workload: what is timed. One is a kernel's folder with a `workload.py` in it, and has the folder's name."""

from __future__ import annotations

from functools import cache

from elastickv.errors import UsageError
from elastickv.kinds.base import LARGEST_INT, Buffer, Buffered, Declared, Fault, Key, Kind, Traffic
from elastickv.policies import combined
from elastickv.system import kernel_files

__all__ = [
    "LARGEST_INT",
    "Buffer",
    "Buffered",
    "Declared",
    "Fault",
    "Key",
    "Kind",
    "Traffic",
    "every",
    "every_key",
    "of",
]

FILE = "workload.py"
TAKEN = ("ceilings", "formats", "anchors")  # other names in a build's fingerprints, which workloads must not have


@cache
def every() -> dict[str, Kind]:
    """Every kind by its name, those of caches first. UsageError for a file that declares none."""
    found = {name: _declared(name) for name in kernel_files.having(FILE)}
    return {name: found[name] for name in sorted(found, key=lambda name: (not found[name].CACHE, name))}


def of(name: str) -> Kind:
    """The kind of this name."""
    return every()[name]


@cache
def every_key() -> dict[str, Key]:
    """The keys of cases that kinds declare. ValueError where two have unlike keys of the same name."""
    return combined({name: type(kind) for name, kind in every().items()}, "workloads")


def _declared(name: str) -> Kind:
    path = kernel_files.KERNELS / name / FILE
    module = kernel_files.module(name, FILE)
    here = [made for made in vars(module).values() if getattr(made, "__module__", "") == module.__name__]
    kinds = [made for made in here if isinstance(made, type) and issubclass(made, Kind)]
    if len(kinds) != 1:
        raise UsageError(f"{path}: {len(kinds)} subclasses of Declared; it has to have one")
    if name in TAKEN or not name.isidentifier():
        raise UsageError(f"{path.parent}: a workload cannot be named {name}")
    lacking = getattr(kinds[0], "__abstractmethods__", ())
    if lacking:
        raise UsageError(f"{path}: {kinds[0].__name__} lacks {', '.join(sorted(lacking))}")
    return kinds[0](name)
