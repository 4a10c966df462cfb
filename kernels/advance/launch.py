"""How `advance` is launched: one thread."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import Gpu, Launch


def launch(_params: ctypes.Structure, _gpu: Gpu) -> Launch:
    """One thread."""
    return Launch("advance", (1, 1, 1), 1)
