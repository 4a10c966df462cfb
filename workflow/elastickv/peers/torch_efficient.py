"""The memory-efficient attention of xFormers, as it is built into torch."""

from __future__ import annotations

from elastickv.peers.sdpa import Sdpa

PEER = Sdpa("torch_efficient", "EFFICIENT_ATTENTION", backends=("cuda",))
