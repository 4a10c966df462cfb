"""Compares kernels of other libraries and of users with ours: same cache, check and timer, interleaved in one process.

`libraries/` has one file per library; a user's file is named by its path. Each peer is a `base.Peer`.
"""

from __future__ import annotations

from importlib import import_module

from elastickv.matrix.peers import offered
from elastickv.peers.base import Peer


def load(name: str) -> Peer:
    """The peer with this name under `libraries/`, one of `offered()`. Imports no large library."""
    return import_module(f"{__name__}.libraries.{offered()[name]}").PEERS[name]
