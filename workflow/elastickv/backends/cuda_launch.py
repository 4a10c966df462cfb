"""Kernel, grid, block and shared memory of every launch: pure functions of the parameter block and the device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

from elastickv.backends import cuda_decode

LINEAR_THREADS = 256
STREAM_TILE_BYTES = 32 << 10
STREAM_BLOCKS_PER_SM = 8
FILL_BLOCKS_PER_SM = 8
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


def _decode(params: ctypes.Structure, sms: int) -> Launch:
    shape = cuda_decode.shape_of(params, sms)
    return Launch(shape.kernel, (shape.tiles, shape.splits), shape.warps * 32, shape.shared_bytes)


def _compress(params: ctypes.Structure, _sms: int) -> Launch:
    warps = COMPRESS_THREADS // 32
    blocks = min(-(-max(params.source_tokens, 1) // warps), 64)
    return Launch("compress", (blocks, params.cache.rows), COMPRESS_THREADS)


def _elementwise(params: ctypes.Structure, _sms: int) -> Launch:
    groups = -(-params.seq // params.compress)
    return _linear("elementwise", params.heads * groups * (params.dim // 4))


def _stream(params: ctypes.Structure, sms: int) -> Launch:
    chunks = max(1, -(-max(params.read_bytes, params.write_bytes) // STREAM_TILE_BYTES))
    resident = sms * STREAM_BLOCKS_PER_SM
    blocks = min(chunks, MOST_GRID if params.write_bytes > params.read_bytes // 16 else resident)
    return Launch("stream", (blocks, 1), LINEAR_THREADS)


SHAPES: dict[str, Callable[[ctypes.Structure, int], Launch]] = {
    "fill": lambda params, sms: Launch("fill", (sms * FILL_BLOCKS_PER_SM, 1), LINEAR_THREADS),
    "compress": _compress,
    "append": lambda params, sms: Launch("append", (params.cache.rows, 1), 32),
    "advance": lambda params, sms: Launch("advance", (1, 1), 1),
    "decode": _decode,
    "elementwise": _elementwise,
    "stream": _stream,
}


def launch_of(kernel: str, params: ctypes.Structure, multiprocessors: int) -> Launch:
    """Launch of any kernel on a device with `multiprocessors` SMs."""
    return SHAPES[kernel](params, multiprocessors)
