"""How `stream` is launched: a thread for each item (kernel.cu: stream_items)."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import Gpu, Launch, linear

ROWS = 4  # most 16-byte vectors that a thread reads, and writes


def items(read_bytes: int, write_bytes: int) -> int:
    """Threads of a pure pass, as kernel.cu divides its vectors of 16 bytes among them."""
    fewer, most = sorted((read_bytes // 16, write_bytes // 16))
    return -(-max(fewer, -(-most // ROWS)) // 32) * 32


def launch(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    """One thread an item."""
    return linear("stream", items(params.read_bytes, params.write_bytes))
