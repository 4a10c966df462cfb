"""FlashInfer's decode of a batch over a paged cache, on tensor cores."""

from __future__ import annotations

from elastickv.peers.flashinfer_batch import Batch

PEER = Batch("flashinfer_batch_tensor", tensor_cores=True)
