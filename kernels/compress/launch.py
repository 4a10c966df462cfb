"""How `compress` is launched: a warp makes one slot at a time."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import Gpu, Launch

THREADS = 128
MOST_BLOCKS = 64  # of a row
NARROW_DIM = 128  # the largest of the kernel that takes fewer registers


def launch(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    """A grid of (blocks, rows)."""
    blocks = min(-(-max(params.most_slots, 1) // (THREADS // 32)), MOST_BLOCKS)
    name = "compress" if params.cache.dim <= NARROW_DIM else "compress_d256"
    return Launch(name, (blocks, params.cache.rows, 1), THREADS)
