"""Kernel, grid, block and shared memory of every launch: pure functions of the parameter block and the device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

from elastickv.device import cuda_decode
from elastickv.device.cuda_decode import Gpu

LINEAR_THREADS = 256
STREAM_ROWS = 4
FILL_BLOCKS_PER_SM = 8
COMPRESS_THREADS = 128
BULK_CAPABILITY = 90  # the first that stores a piece of shared memory at once
FEWEST_BULK_BYTES = 32 << 20  # of a whole output
MOST_BULK_BYTES = 32 << 10  # of a block's
MOST_GRID = 2**31 - 1


class Launch(NamedTuple):
    """Name of the kernel in the fatbin, its grid, its block size and its dynamic shared memory."""

    name: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int = 0


def _linear(name: str, threads_needed: int) -> Launch:
    return Launch(name, (min(max(1, -(-threads_needed // LINEAR_THREADS)), MOST_GRID), 1, 1), LINEAR_THREADS)


def _decode(params: ctypes.Structure, gpu: Gpu) -> Launch:
    shape = cuda_decode.shape_of(params, gpu)
    grid = (shape.splits, shape.tiles // params.cache.rows, params.cache.rows)
    return Launch(shape.instance.kernel, grid, shape.warps * 32, shape.shared_bytes)


def _compress(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    warps = COMPRESS_THREADS // 32
    blocks = min(-(-max(params.source_tokens, 1) // warps), 64)
    return Launch("compress", (blocks, params.cache.rows, 1), COMPRESS_THREADS)


def _elementwise(params: ctypes.Structure, gpu: Gpu) -> Launch:
    """Long outputs of whole groups leave through shared memory where the device can; short ones would lose by it."""
    groups, quads = -(-params.seq // params.compress), params.dim // 4
    launch = _linear("elementwise", params.heads * groups * quads)
    whole = params.compress > 1 and params.seq % params.compress == 0 and LINEAR_THREADS % quads == 0
    long = params.heads * params.seq * params.dim * 4 >= FEWEST_BULK_BYTES
    shared_bytes = LINEAR_THREADS * params.compress * 16
    if gpu.capability >= BULK_CAPABILITY and whole and long and shared_bytes <= MOST_BULK_BYTES:
        return launch._replace(shared_bytes=shared_bytes)
    return launch


def stream_items(read_bytes: int, write_bytes: int) -> int:
    """Threads of a pure pass, as kernels/stream/kernel.cu divides its vectors of 16 bytes among them."""
    fewer, most = sorted((read_bytes // 16, write_bytes // 16))
    return -(-max(fewer, -(-most // STREAM_ROWS)) // 32) * 32


def _stream(params: ctypes.Structure, _gpu: Gpu) -> Launch:
    return _linear("stream", stream_items(params.read_bytes, params.write_bytes))


SHAPES: dict[str, Callable[[ctypes.Structure, Gpu], Launch]] = {
    "fill": lambda params, gpu: Launch("fill", (gpu.multiprocessors * FILL_BLOCKS_PER_SM, 1, 1), LINEAR_THREADS),
    "compress": _compress,
    "close": lambda params, gpu: Launch("close", (params.rows, params.layers, 1), 32),
    "append": lambda params, gpu: Launch("append", (params.cache.rows, 1, 1), 32),
    "advance": lambda params, gpu: Launch("advance", (1, 1, 1), 1),
    "decode": _decode,
    "elementwise": _elementwise,
    "stream": _stream,
}


def launch_of(kernel: str, params: ctypes.Structure, gpu: Gpu) -> Launch:
    """Launch of any kernel on a device."""
    return SHAPES[kernel](params, gpu)
