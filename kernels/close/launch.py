"""How `close` is launched: a warp for each row of each layer."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import Gpu, Launch


def launch(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    """A grid of (rows, layers)."""
    return Launch("close", (params.rows, params.layers, 1), 32)
