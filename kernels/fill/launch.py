"""How `fill` is launched: any grid does, a thread makes four elements at a time."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import LINEAR_THREADS, Gpu, Launch

BLOCKS_PER_SM = 8


def launch(_params: ctypes.Structure, gpu: Gpu) -> Launch:
    """As many blocks as an SM holds, on each."""
    return Launch("fill", (gpu.multiprocessors * BLOCKS_PER_SM, 1, 1), LINEAR_THREADS)
