"""How `elementwise` is launched: a thread for each (head, group, four dims)."""

from __future__ import annotations

import ctypes

from elastickv.device.launches import LINEAR_THREADS, Gpu, Launch, linear

BULK_CAPABILITY = 90  # first compute capability with bulk stores from shared memory
FEWEST_BULK_BYTES = 32 << 20  # of a whole output
MOST_BULK_BYTES = 32 << 10  # of a block's


def launch(params: ctypes.Structure, gpu: Gpu) -> Launch:
    """Long outputs of whole groups are stored through shared memory if the device supports it; short ones are not."""
    groups, quads = -(-params.seq // params.compress), params.dim // 4
    made = linear("elementwise", params.heads * groups * quads)
    whole = params.compress > 1 and params.seq % params.compress == 0 and LINEAR_THREADS % quads == 0
    long = params.heads * params.seq * params.dim * 4 >= FEWEST_BULK_BYTES
    shared_bytes = LINEAR_THREADS * params.compress * 16
    if gpu.capability >= BULK_CAPABILITY and whole and long and shared_bytes <= MOST_BULK_BYTES:
        return made._replace(shared_bytes=shared_bytes)
    return made
