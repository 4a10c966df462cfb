"""FlashAttention as it is built into torch: FlashAttention-2 on a GPU, torch's own blocked kernel on a CPU."""

from __future__ import annotations

from elastickv.peers.sdpa import Sdpa

PEER = Sdpa("torch_flash", "FLASH_ATTENTION")
