"""Kernel, grid, block and shared memory of every launch: pure functions of the parameter block and the device."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from elastickv.backends import cuda_decode

LINEAR_THREADS = 256
STREAM_TILE_BYTES = 32 << 10
STREAM_BLOCKS_PER_SM = 8
COMPRESS_THREADS = 128
MOST_GRID = 2**31 - 1


class Launch(NamedTuple):
    """Name of the kernel in the fatbin, its grid, its block size and its dynamic shared memory."""

    name: str
    grid: tuple[int, int]
    threads: int
    shared_bytes: int = 0


def _linear(name: str, threads_needed: int) -> Launch:
    return Launch(name, (min(max(1, -(-threads_needed // LINEAR_THREADS)), MOST_GRID), 1), LINEAR_THREADS)


def launch_of(kernel: str, params: ctypes.Structure, multiprocessors: int) -> Launch:
    """Launch of any kernel."""
    if kernel == "decode":
        shape = cuda_decode.shape_of(params, multiprocessors)
        return Launch(shape.kernel, (shape.tiles, shape.splits), shape.warps * 32, shape.shared_bytes)
    if kernel == "fill":
        return Launch(kernel, (multiprocessors * 8, 1), LINEAR_THREADS)
    if kernel == "compress":
        warps = COMPRESS_THREADS // 32
        blocks = min(-(-max(params.source_tokens, 1) // warps), 64)
        return Launch(kernel, (blocks, params.cache.rows), COMPRESS_THREADS)
    if kernel == "append":
        return Launch(kernel, (params.cache.rows, 1), 32)
    if kernel == "advance":
        return Launch(kernel, (1, 1), 1)
    if kernel == "elementwise":
        groups = -(-params.seq // params.compress)
        return _linear(kernel, params.heads * groups * (params.dim // 4))
    tiles = -(-params.read_bytes // STREAM_TILE_BYTES) + -(-params.write_bytes // STREAM_TILE_BYTES)
    return Launch(kernel, (max(1, min(tiles, multiprocessors * STREAM_BLOCKS_PER_SM)), 1), LINEAR_THREADS)
