"""Kernels of other libraries beside ours: the same cache, check and timer, interleaved in one process.

One adapter file per peer (`PEER` in it), behind the small interface of `base.py`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from elastickv.peers.base import Peer


def load(name: str) -> Peer:
    """The peer of that name, which is that of its file. Imports no heavy library."""
    if name not in {found.name for found in pkgutil.iter_modules(__path__)}:
        raise ValueError(f"{name}: no such peer")
    return import_module(f"{__name__}.{name}").PEER
