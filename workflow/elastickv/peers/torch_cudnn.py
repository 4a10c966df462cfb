"""cuDNN's fused attention, through torch."""

from __future__ import annotations

from elastickv.peers.sdpa import HALF, Sdpa

PEER = Sdpa("torch_cudnn", "CUDNN_ATTENTION", backends=("cuda",), dtypes=HALF)
