"""torch's attention with the query heads of a KV head as one block: what a careful caller does for grouped queries."""

from __future__ import annotations

from elastickv.peers.sdpa import Sdpa

PEER = Sdpa("torch_grouped", grouped=True)
