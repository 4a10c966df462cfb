"""Attention as torch writes it in single operations: two products and a softmax."""

from __future__ import annotations

from elastickv.peers.sdpa import Sdpa

PEER = Sdpa("torch_math", "MATH")
