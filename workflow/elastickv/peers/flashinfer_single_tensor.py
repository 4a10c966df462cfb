"""FlashInfer's decode of one sequence, on tensor cores."""

from __future__ import annotations

from elastickv.peers.flashinfer_single import Single

PEER = Single("flashinfer_single_tensor", tensor_cores=True)
