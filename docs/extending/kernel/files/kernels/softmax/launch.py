"""How `softmax` is launched: a block for each row, which waits in shared memory."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import Gpu, Launch

THREADS = 256  # SOFTMAX_THREADS of kernel.cu


def launch(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    """A grid of rows."""
    return Launch("softmax", (params.rows, 1, 1), THREADS, 4 * params.columns)
