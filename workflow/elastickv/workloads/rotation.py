"""How much memory a case takes, and over how many layers of it a measurement rotates: pure."""

from __future__ import annotations

from typing import NamedTuple

from elastickv.cache import bytes_moved
from elastickv.schemas.case import AnyCase
from elastickv.workloads.arena import padded
from elastickv.workloads.cache import CacheShape

SCRATCH_BYTES = 64 << 20  # workspace and small buffers in addition to the layers


class Rotation(NamedTuple):
    """layers: how many (0: not even one fits). footprint: bytes of one. room: bytes for all. cold: see `is_cold`."""

    layers: int
    footprint: int
    room: int
    cold: bool


def footprint(case: AnyCase) -> int:
    """Bytes that one layer of a canonical case (without caches one set of buffers) allocates, both arms."""
    if not case.kind.CACHE:
        return sum(padded(buffer.nbytes) for buffer in case.kind.buffers(case).values())
    return CacheShape(case, case.seq + case.measure.decode_tokens).footprint()


def rotation(case: AnyCase, last_level_cache: int, budget: int) -> Rotation:
    """As many layers as make each cold when its turn comes, at most as many as `budget` bytes hold."""
    elastic, size = bytes_moved.traffic(case)["elastic"].total, footprint(case)
    room = max(budget - SCRATCH_BYTES, 0)
    count = bytes_moved.layers(elastic, size, last_level_cache, room)
    return Rotation(count, size, room, bytes_moved.is_cold(elastic, count, last_level_cache))


def fitting(case: AnyCase, last_level_cache: int, budget: int) -> Rotation:
    """The rotation of a case of which at least one layer fits. Raises MemoryError."""
    found = rotation(case, last_level_cache, budget)
    if found.layers < 1:
        needed, allowed = found.footprint / 1e9, found.room / 1e9
        raise MemoryError(f"one layer needs {needed:.2f} GB, {allowed:.2f} GB may be used")
    return found
