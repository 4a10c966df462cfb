"""What an elastic cache keeps: one file per policy, found because it is in this folder.

A file has one subclass of `Policy`. Where a policy makes groups into slots, an anchor rule (`elastickv.anchors`) says
of what.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from elastickv.policies.base import Key, Policy

DEFAULT = "grouped"  # that of a case which names none


@cache
def every() -> dict[str, type[Policy]]:
    """Every policy by its name, the default first. Raises ValueError where a file's name is not its policy's."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        here = [made for made in vars(module).values() if getattr(made, "__module__", "") == module.__name__]
        for made in here:
            if isinstance(made, type) and issubclass(made, Policy) and made is not Policy:
                if info.name != made.NAME:
                    raise ValueError(f"policies/{info.name}.py declares the policy {made.NAME}; name both alike")
                found[made.NAME] = made
    return {name: found[name] for name in sorted(found, key=lambda name: (name != DEFAULT, name))}


def of(name: str) -> type[Policy]:
    """The policy of this name."""
    return every()[name]


@cache
def every_key() -> dict[str, Key]:
    """The keys of all policies. Raises ValueError where two policies have unlike keys of the same name."""
    return combined(every())


def combined(found: Mapping[str, Any], what: str = "policies") -> dict[str, Key]:
    """The KEYS of all these (policies, workloads), by their order and then by that of their keys."""
    keys: dict[str, Key] = {}
    owners: dict[str, str] = {}
    for policy, made in found.items():
        for name, key in made.KEYS.items():
            if keys.setdefault(name, key) != key:
                raise ValueError(
                    f"{what} {owners[name]} and {policy} declare the key {name} differently: name the one otherwise, "
                    "or import the other's Key"
                )
            owners.setdefault(name, policy)
    return keys
