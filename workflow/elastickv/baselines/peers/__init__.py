"""Kernels of other libraries beside ours: the same cache, check and timer, interleaved in one process.

One adapter file per peer (`PEER` in it), behind the small interface of `base.py`.
"""

from __future__ import annotations

from importlib import import_module

from elastickv.baselines.peers.base import Peer
from elastickv.matrix.defaults import PEER_NAMES


def load(name: str) -> Peer:
    """The peer of that name, one of PEER_NAMES. Imports no heavy library."""
    if name not in PEER_NAMES:
        raise ValueError(f"{name}: no such peer")
    return import_module(f"{__name__}.{name}").PEER
