"""Instance, block size, splits and memory of a decode launch: pure functions of the parameter block and the device.

Mirrors kernels/cuda: decode.cu (which instances exist), reader.cuh (units), combine.cuh (Scratch, Workspace).
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache
from typing import NamedTuple

from elastickv.backends.params import DTYPES

DTYPE_OF = {code: name for name, code in DTYPES.items()}
DIMS = (64, 80, 96, 128, 256)
QUERY_TILE = 4
ELEMENTS = 8  # of a cached row in one lane
# Warps an SM holds (the instances' registers), by query tile, and the block sizes to choose from, in warps.
WARPS_PER_SM = {1: 16, QUERY_TILE: 12}
BLOCK_WARPS = {1: (16, 8, 4), QUERY_TILE: (12, 6, 3)}
MOST_SPLITS = 128
# A rough model of the time, good enough to compare shapes: what one SM reads in a microsecond, the share of its warps
# that suffices to read at that rate, what starting a wave of blocks costs, and what the merge of the splits costs.
SM_BYTES_PER_US = 25_000
BUSY_SHARE = 0.75
WAVE_US = 2.0
MERGE_ROUND_US = 0.7
ARRIVAL_US = 0.8
MERGES_IN_FLIGHT = 8


class DecodeShape(NamedTuple):
    """How one decode runs. tile: query heads a block works on; widest: largest dim of the kernel's instance."""

    kernel: str
    tile: int
    widest: int
    tiles: int
    warps: int
    splits: int

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block (Scratch)."""
        per_warp = self.tile * (self.widest * 4 + 8) + 32 * (16 + 8)
        return self.warps * per_warp


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _tile(params: ctypes.Structure) -> int:
    """4 query heads share one read of K and V in grouped-query caches of 16 bits and up to 128 dims."""
    cache = params.cache
    return QUERY_TILE if params.group > 1 and DTYPE_OF[cache.dtype] != "fp32" and cache.dim <= 128 else 1


def _widest(params: ctypes.Structure) -> int:
    cache = params.cache
    if cache.dim == 64 and cache.dtype == cache.cache_dtype and DTYPE_OF[cache.dtype] != "fp32":
        return 64
    return 128 if cache.dim <= 128 else 256


def _unit_slots(dtype: str, tile: int, widest: int) -> int:
    """Slots that a warp reduces at once."""
    loads = 4 if dtype == "fp32" else 16 if dtype in ("int8", "int4") and tile == 1 else 8
    return loads * 32 * ELEMENTS // widest


def units(params: ctypes.Structure, tile: int, widest: int) -> int:
    """Units of one row when the cache holds `max_tokens` tokens."""
    cache, tokens = params.cache, params.max_tokens
    groups = max(0, tokens - cache.sinks - cache.window) // max(cache.compress, 1)
    exact = tokens - groups * cache.compress
    middle_unit = _unit_slots(DTYPE_OF[cache.cache_dtype], tile, widest)
    exact_unit = _unit_slots(DTYPE_OF[cache.dtype], tile, widest)
    return _ceil(groups, middle_unit) + _ceil(exact, exact_unit)


def _microseconds(shape: DecodeShape, work: int, unit_bytes: int, dim: int, sms: int) -> float:
    """Modelled time: the fullest SM's units (slower with too few warps to keep memory busy), its waves, the merge."""
    on_fullest = _ceil(shape.tiles * shape.splits, sms)
    share = _ceil(work, shape.splits)
    idle_turns = _ceil(share, shape.warps) * shape.warps - share  # in the last turn; the others then read faster
    busy = on_fullest * shape.warps / WARPS_PER_SM[shape.tile]
    rate = SM_BYTES_PER_US * min(1.0, busy / BUSY_SHARE)
    reading = on_fullest * (share + idle_turns / 2) * unit_bytes / rate
    waves = WAVE_US * math.ceil(busy)
    if shape.splits == 1:
        return reading + waves
    crews = max(1, shape.warps * 32 // (shape.tile * dim // 4))
    return reading + waves + ARRIVAL_US + MERGE_ROUND_US * _ceil(_ceil(shape.splits, crews), MERGES_IN_FLIGHT)


def shape_of(params: ctypes.Structure, sms: int) -> DecodeShape:
    """The instance and the shape with the smallest modelled time on a device with `sms` multiprocessors."""
    cache, tile = params.cache, _tile(params)
    widest = _widest(params)
    kernel = f"decode_{DTYPE_OF[cache.dtype]}_{DTYPE_OF[cache.cache_dtype]}_d{widest}_g{tile}"
    unit_bytes = 8192 if DTYPE_OF[cache.cache_dtype] != "int4" else 4096 if tile == 1 else 2048
    work = max(1, units(params, tile, widest))
    return _fastest(kernel, tile, widest, cache.rows * _ceil(params.group, tile), work, unit_bytes, cache.dim, sms)


@lru_cache(maxsize=1024)  # a plain launch must not wait for the search
def _fastest(
    kernel: str, tile: int, widest: int, tiles: int, work: int, unit_bytes: int, dim: int, sms: int
) -> DecodeShape:
    candidates = (
        DecodeShape(kernel, tile, widest, tiles, warps, splits)
        for warps in BLOCK_WARPS[tile]
        for splits in range(1, min(MOST_SPLITS, _ceil(work, warps)) + 1)
    )
    return min(candidates, key=lambda shape: (_microseconds(shape, work, unit_bytes, dim, sms), shape.splits))


def workspace_bytes(params: ctypes.Structure, sms: int) -> int:
    """Bytes of a decode's workspace: counters, then a bound and a sum per block and head (Workspace)."""
    shape = shape_of(params, sms)
    counters = _ceil(params.cache.rows * params.group * 4, 256) * 256
    heads = shape.tiles * shape.splits * shape.tile
    return counters + _ceil(heads, 2) * 2 * 8 + heads * params.cache.dim * 4
