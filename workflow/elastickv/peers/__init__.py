"""Kernels of other libraries, and of users, beside ours: the same cache, check and timer, interleaved in one process.

One file a library lies under `libraries/`; a user's own file is named by its path. Each peer is a `base.Peer`.
"""

from __future__ import annotations

from importlib import import_module

from elastickv.matrix.peers import offered
from elastickv.peers.base import Peer


def load(name: str) -> Peer:
    """The peer of that name of those under `libraries/`. Imports no heavy library. Raises ValueError."""
    if name not in offered():
        raise ValueError(f"{name}: no such peer")
    return import_module(f"{__name__}.libraries.{offered()[name]}").PEERS[name]
