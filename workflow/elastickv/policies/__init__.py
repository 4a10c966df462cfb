"""Policies decide what an elastic cache keeps. Each file in this folder defines one and is registered automatically.

A file has one subclass of `Policy`. If a policy turns groups of tokens into slots, an anchor rule
(`elastickv.anchors`) chooses the slot's content.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from elastickv.errors import UsageError
from elastickv.policies.base import Key, Policy

DEFAULT = "grouped"  # policy of cases that do not name one


@cache
def every() -> dict[str, type[Policy]]:
    """All policies by name, the default first. Raises UsageError if a file is not named like its policy."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        here = [made for made in vars(module).values() if getattr(made, "__module__", "") == module.__name__]
        for made in here:
            if isinstance(made, type) and issubclass(made, Policy) and made is not Policy:
                if info.name != made.NAME:
                    raise UsageError(f"policies/{info.name}.py declares the policy {made.NAME}; give both one name")
                found[made.NAME] = made
    return {name: found[name] for name in sorted(found, key=lambda name: (name != DEFAULT, name))}


def of(name: str) -> type[Policy]:
    """The policy of this name."""
    return every()[name]


@cache
def every_key() -> dict[str, Key]:
    """The keys of all policies. Raises UsageError if policies declare a key of the same name differently."""
    return combined(every())


def combined(found: Mapping[str, Any], what: str = "policies") -> dict[str, Key]:
    """The KEYS of these policies or workloads, in their order and then in the order of the keys."""
    keys: dict[str, Key] = {}
    owners: dict[str, str] = {}
    for policy, made in found.items():
        for name, key in made.KEYS.items():
            if keys.setdefault(name, key) != key:
                raise UsageError(
                    f"{what} {owners[name]} and {policy} declare the key {name} differently: rename one of them, "
                    "or import the other's Key"
                )
            owners.setdefault(name, policy)
    return keys
