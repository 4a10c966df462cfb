"""torch's attention as anyone gets it who calls it."""

from __future__ import annotations

from elastickv.peers.sdpa import Sdpa

PEER = Sdpa("torch_default")
