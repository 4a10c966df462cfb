"""Launches decode for caches that no instance of kernels/decode supports. It mirrors kernel.cu and cuda/any.cuh."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from elastickv.device.launches import Gpu, Launch

THREADS = 256
SHORTEST = 6  # a piece is a power of two of slots, at least 2^6
BLOCKS_PER_SM = 4  # wanted: more pieces read what formats keep per head more often
QUERY_TILE = 4
PLACE_WORDS = 4  # words of a head's partial answer in addition to its dims


class Shape(NamedTuple):
    """A block for each of `tiles` tiles of query heads (of all rows) and each of `pieces` pieces of segments."""

    tile: int
    tiles: int
    pieces: int

    @property
    def kernel(self) -> str:
        """Its name in the fatbin."""
        return f"decode_any_g{self.tile}"


def shape_of(params: ctypes.Structure, gpu: Gpu) -> Shape:
    """As many pieces as keep the device busy, but none shorter than 64 slots."""
    tile = 1 if params.group == 1 else QUERY_TILE
    tiles = params.cache.rows * -(-params.group // tile)
    wanted = max(1, BLOCKS_PER_SM * gpu.multiprocessors // tiles)
    touched = params.touched[: params.cache.segment_count]
    shift = SHORTEST
    while (count := pieces(touched, shift)) > max(wanted, sum(slots > 0 for slots in touched)):
        shift += 1
    return Shape(tile, tiles, max(count, 1))


def pieces(touched: list[int], shift: int) -> int:
    """Pieces of 2^shift slots."""
    return sum((slots + (1 << shift) - 1) >> shift for slots in touched)


def workspace_bytes(params: ctypes.Structure, gpu: Gpu) -> int:
    """Bytes of a workspace: a partial answer for each piece and query head."""
    shape = shape_of(params, gpu)
    return shape.tiles * shape.pieces * shape.tile * (params.cache.dim + PLACE_WORDS) * 4


def launch(params: ctypes.Structure, gpu: Gpu) -> Launch:
    """A grid of (pieces, tiles per row, rows)."""
    shape = shape_of(params, gpu)
    rows = params.cache.rows
    return Launch(shape.kernel, (shape.pieces, shape.tiles // rows, rows), THREADS)
