"""How `compress` is launched: a warp makes one slot at a time."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import Gpu, Launch

THREADS = 128
MOST_BLOCKS = 64  # of a row


def launch(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    """A grid of (blocks, rows)."""
    blocks = min(-(-max(params.most_slots, 1) // (THREADS // 32)), MOST_BLOCKS)
    return Launch("compress", (blocks, params.cache.rows, 1), THREADS)
