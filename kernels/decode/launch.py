"""Instance, block size, splits and memory of a decode launch: pure functions of the parameter block and the device.

Its instances are those of kernels/decode and of kernels/decode_tensor. It mirrors both (which instances exist, units),
and reader.cuh (units) and finish.cuh (Scratch, Workspace) of kernels/cuda. Caches that no instance reads go to
kernels/decode_any.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from elastickv import formats
from elastickv.device.launches import Gpu, Launch, of_kernel
from elastickv.schemas.case import DecodeCase

DTYPE_OF = {one.number: name for name, one in formats.every().items()}
ANY = "decode_any"
QUERY_TILE = 4
ELEMENTS = 8  # elements of a cached row per lane
TENSOR_DIM = 128
TENSOR_CAPABILITY = 80  # the first with the products that decode_tensor needs
TENSOR_UNIT_BYTES = 8192
STAGE_BYTES = 8192  # of a warp
# Turns per warp at which staging is worthwhile: many, or a second turn of only a few warps. Else it delays the first.
MANY_TURNS = 4.0
FEW_TURNS = 1.4
STAGE_CAPABILITY = 80  # the first that copies to shared memory while it computes
BLOCK_RESERVE_BYTES = 1024  # shared memory per block that the system reserves
TENSOR_UNIT_SLOTS = {"int8": 32, "int4": 64}  # formats with scales that tensor cores multiply; those without: 16
# Warps an SM holds (the instances' registers) and the block sizes to choose from, in warps: with up to 128 registers a
# thread (one query head at a time, on CUDA cores) and with up to 168 (the others).
WARPS_PER_SM = {False: 16, True: 12}
BLOCK_WARPS = {False: (16, 8, 4), True: (12, 6, 3)}
MOST_SPLITS = 128
# A model of the time, good enough to rank shapes (fitted to 49 caches on one GPU of 132 SMs; only ratios matter).
BYTES_PER_US = 54_000  # bandwidth of an SM with BUSY_WARPS or more; proportionally less with fewer
BUSY_WARPS = 13.3
TURN_US = 0.5  # what 12 warps of an SM compute on a unit each, if it is quantised
EXACT_SHARE = 0.3  # of that, if it is not
IDLE_TURN_US = 1.1  # a turn in which most of a block's warps have nothing left to read
WAVE_US = 2.0  # a further wave of blocks
MERGE_US = 1.0
MERGE_ROUND_US = 0.67  # partials that the merging threads load at once
MERGES_IN_FLIGHT = 4  # a thread's (SPLITS_IN_FLIGHT of finish.cuh)
WARPS_ROUND_US = 0.5  # the warps of a block whose sums are merged at once
WARPS_IN_FLIGHT = 8  # (finish.cuh)


class Instance(NamedTuple):
    """A kernel of the fatbin. tile: query heads a block works on; widest: the largest dim; tensor: on tensor cores."""

    kernel: str
    tile: int
    widest: int
    tensor: bool

    @property
    def items(self) -> int:
        """Runs of four dims of a tile's answer: what a thread merges."""
        return self.tile * self.widest // 4

    @property
    def large(self) -> bool:
        """Whether a thread takes up to 168 registers instead of 128."""
        return self.tensor or self.tile > 1

    def unit_slots(self, dtype: str) -> int:
        """Slots stored as `dtype` that a warp reduces at once."""
        if self.tensor:
            return TENSOR_UNIT_SLOTS.get(dtype, 16)
        stored = formats.of(dtype)
        loads = 4 if stored.bits == 32 else 16 if stored.scaled and self.tile == 1 else 8
        return loads * 32 * ELEMENTS // self.widest

    def unit_bytes(self, cache_dtype: str) -> int:
        """Bytes of keys and values of a unit of the middle segment."""
        if self.tensor or formats.of(cache_dtype).bits > 4:
            return TENSOR_UNIT_BYTES
        return 4096 if self.tile == 1 else 2048


class DecodeShape(NamedTuple):
    """Launch parameters of one decode: blocks of `warps` warps, `splits` of them for each of `tiles` tiles of heads.

    staged: each warp prefetches its second unit to shared memory (stage.cuh).
    """

    instance: Instance
    tiles: int
    warps: int
    splits: int
    staged: bool = False

    def resident(self, gpu: Gpu) -> int:
        """Blocks that the device holds at once."""
        return gpu.multiprocessors * (WARPS_PER_SM[self.instance.large] // self.warps)

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory per block (Stage, Scratch)."""
        partial = self.instance.tile * (self.instance.widest * 4 + 8)
        queries = self.instance.tile * (self.instance.widest * 4 + 16)
        makers = self.warps if self.instance.tile == 1 else 1
        crews = self.warps * 32 * (16 + 8)
        return (self.warps + 1) * partial + crews + makers * queries + self.warps * self.staged * STAGE_BYTES


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def needs_any(cache: ctypes.Structure) -> bool:
    """Whether a cache is not supported by any instance.

    Instances support up to two segments, each with one plain format for keys and values.
    """
    segments = cache.segments[: cache.segment_count]
    differing = any(one.k_format != one.v_format or one.k_state or one.v_state for one in segments)
    return len(segments) > 2 or differing or not all(formats.of(DTYPE_OF[one.k_format]).plain for one in segments)


def instance_of(params: ctypes.Structure, gpu: Gpu) -> Instance:
    """The kernel for a cache and a device.

    Tensor cores take grouped queries and quantised middles of dim 128. On CUDA cores 4 query heads share one read of K
    and V in grouped-query caches of 16 bits and up to 128 dims; dim 64 has rows of its own in unquantised ones.
    """
    cache = params.cache
    return _instance(DTYPE_OF[cache.dtype], middle_format(cache), cache.dim, params.group, gpu)


def middle_format(cache: ctypes.Structure) -> str:
    """How the middle segment (number 1) stores keys and values; a cache without one: as its exact one does."""
    return DTYPE_OF[cache.segments[1].k_format if cache.segment_count > 1 else cache.dtype]


def _instance(dtype: str, cache_dtype: str, dim: int, group: int, gpu: Gpu) -> Instance:
    halves, quantised = formats.of(dtype).bits == 16, cache_dtype != dtype
    tile = QUERY_TILE if group > 1 and halves and dim <= 128 else 1
    tensor = gpu.capability >= TENSOR_CAPABILITY and gpu.forced.loop != "cores"
    tensor = tensor and (not quantised or cache_dtype in TENSOR_UNIT_SLOTS)
    if tensor and dim == TENSOR_DIM and halves and (tile > 1 or quantised):
        return Instance(f"decode_tensor_{dtype}_{cache_dtype}_g{tile}", tile, TENSOR_DIM, True)
    widest = 64 if dim == 64 and halves and not quantised else 128 if dim <= 128 else 256
    return Instance(f"decode_{dtype}_{cache_dtype}_d{widest}_g{tile}", tile, widest, False)


def unfit(case: DecodeCase, gpu: Gpu) -> str | None:
    """None, or why a decode case cannot be launched with the block size that is forced."""
    if gpu.forced.warps is None:
        return None
    if case.key_format != case.value_format or not formats.of(case.key_format).plain:
        return f"keys and values as {case.stored_as} are read by blocks of 8 warps, not of {gpu.forced.warps}"
    for cache_dtype in (case.dtype, case.key_format):
        group = case.heads // case.kv_heads
        instance = _instance(case.dtype, cache_dtype, case.dim, group, gpu)
        if gpu.forced.warps not in BLOCK_WARPS[instance.large]:
            sizes = ", ".join(map(str, BLOCK_WARPS[instance.large]))
            return f"{instance.kernel} has no blocks of {gpu.forced.warps} warps, but of {sizes}"
    return None


def units(params: ctypes.Structure, instance: Instance) -> int:
    """Units of one row: of the slots that tokens have touched, whether or not they still hold one."""
    exact, middle = params.touched[:2]
    middle_unit = instance.unit_slots(middle_format(params.cache))
    return _ceil(middle, middle_unit) + _ceil(exact, instance.unit_slots(DTYPE_OF[params.cache.dtype]))


def _microseconds(shape: DecodeShape, work: int, cache_dtype: str, gpu: Gpu) -> float:
    """Modelled time: reading, computing, idle warps, further waves, merging warps and splits."""
    sms, unit_bytes = gpu.multiprocessors, shape.instance.unit_bytes(cache_dtype)
    blocks, resident = shape.tiles * shape.splits, shape.resident(gpu)
    busy = min(1.0, min(blocks, resident) * shape.warps / (BUSY_WARPS * sms))
    reading = shape.tiles * work * unit_bytes / (BYTES_PER_US * sms * busy)
    waves, turns = _ceil(blocks, resident), work / shape.splits / shape.warps
    at_once = min(_ceil(blocks, sms), resident // sms) * shape.warps
    share = 1.0 if formats.of(cache_dtype).scaled else EXACT_SHARE
    computing = TURN_US * share * waves * math.ceil(turns) * at_once / 12
    idle = IDLE_TURN_US * (math.ceil(turns) - turns) if turns > 1 else 0.0
    others = shape.splits - 1
    crews = max(1, min(shape.warps * 32 // shape.instance.items, others))
    merge = MERGE_US + MERGE_ROUND_US * _ceil(others, crews * MERGES_IN_FLIGHT) if others else 0.0
    merge += WARPS_ROUND_US * _ceil(shape.warps, WARPS_IN_FLIGHT)
    return reading + computing + idle + WAVE_US * (waves - 1) + merge


def shape_of(params: ctypes.Structure, gpu: Gpu) -> DecodeShape:
    """The instance and the shape with the smallest modelled time on a device."""
    cache, instance = params.cache, instance_of(params, gpu)
    work = max(1, units(params, instance))
    tiles = cache.rows * _ceil(params.group, instance.tile)
    return _fastest(instance, tiles, work, middle_format(cache), gpu)


@lru_cache(maxsize=1024)  # a plain launch must not wait for the search
def _fastest(instance: Instance, tiles: int, work: int, cache_dtype: str, gpu: Gpu) -> DecodeShape:
    candidates = (
        DecodeShape(instance, tiles, warps, splits)
        for warps in ([gpu.forced.warps] if gpu.forced.warps else BLOCK_WARPS[instance.large])
        for splits in _splits(work, warps, gpu.forced.splits)
    )
    chosen = min(candidates, key=lambda shape: (_microseconds(shape, work, cache_dtype, gpu), shape.splits))
    staged = chosen._replace(staged=True)
    return staged if _can_stage(staged, work, cache_dtype, gpu) else chosen


def _can_stage(shape: DecodeShape, work: int, cache_dtype: str, gpu: Gpu) -> bool:
    """Whether the loop can (STAGES in reader.cuh), gains by it or is forced to, and the SM has room for its blocks."""
    if gpu.forced.stage == "never" or gpu.capability < STAGE_CAPABILITY:
        return False
    if shape.instance.large or formats.of(cache_dtype).bits != 16:
        return False
    turns = work / shape.splits / shape.warps
    if turns <= 1 or (FEW_TURNS < turns < MANY_TURNS and gpu.forced.stage != "always"):
        return False
    blocks = shape.resident(gpu) // gpu.multiprocessors
    return blocks * (shape.shared_bytes + BLOCK_RESERVE_BYTES) <= gpu.shared_bytes


def _splits(work: int, warps: int, forced: int | None) -> Iterable[int]:
    most = min(MOST_SPLITS, _ceil(2 * work, warps))  # half of the warps have work
    return [min(forced, most)] if forced else range(1, most + 1)


def workspace_bytes(params: ctypes.Structure, gpu: Gpu) -> int:
    """Bytes of a decode's workspace: per split but the last, head and four dims a float4 of sums and (m, l)."""
    if needs_any(params.cache):
        return of_kernel(ANY).workspace_bytes(params, gpu)
    shape = shape_of(params, gpu)
    return shape.tiles * (shape.splits - 1) * shape.instance.items * (16 + 8)


def described(params: ctypes.Structure, gpu: Gpu) -> tuple[str, int, int, bool]:
    """Kernel, splits per row, warps per block, and whether units are staged."""
    if needs_any(params.cache):
        made = of_kernel(ANY)
        shape = made.shape_of(params, gpu)
        return shape.kernel, shape.pieces, made.THREADS // 32, False
    shape = shape_of(params, gpu)
    return shape.instance.kernel, shape.splits, shape.warps, shape.staged


def launch(params: ctypes.Structure, gpu: Gpu) -> Launch:
    """A grid of (splits, tiles per row, rows)."""
    if needs_any(params.cache):
        return of_kernel(ANY).launch(params, gpu)
    shape = shape_of(params, gpu)
    grid = (shape.splits, shape.tiles // params.cache.rows, params.cache.rows)
    return Launch(shape.instance.kernel, grid, shape.warps * 32, shape.shared_bytes)
