"""How `advance` is launched: one block, a thread a piece of 16 bytes as far as there are threads."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import Gpu, Launch
from elastickv.device.params import MOST_SEGMENTS

MOST_THREADS = 1024
PIECES = 2 * MOST_SEGMENTS + 2  # of 16 bytes, a row (kernel.cu)


def launch(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    """One block of whole warps."""
    return Launch("advance", (1, 1, 1), min(-(-params.rows * PIECES // 32) * 32, MOST_THREADS))
