"""Bytes that a case must move, the ceilings that follow from them, and efficiencies: pure functions."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

from elastickv import formats
from elastickv.kinds import Traffic
from elastickv.policies.base import Segment
from elastickv.schemas.case import AnyCase, DecodeCase, policy_of

MOST_LAYERS = 256
COLD_FACTOR = 4
BEYOND_PEAK = 1.02  # an efficiency above this means that the byte count is wrong or the cache was warm


class Ceilings(NamedTuple):
    """Bytes of a launch by arm, and the largest speedups that they allow: in all, by fewer slots, by fewer bits."""

    full: int
    elastic: int
    ceiling: float
    ceiling_slots: float
    ceiling_bits: float


def decode_traffic(case: DecodeCase) -> dict[str, Traffic]:
    """Traffic of one decode launch per arm, and of an elastic cache with fewer but no smaller slots (`slots_only`).

    Per (batch, KV head): of every segment its live slots, each a key and a value as their formats store them, + 2 where
    there is a scale; 4 per slot if biased; plus q and the output once, and what formats keep for each KV head.
    """
    policy, dim, segments = policy_of(case), case.dim, policy_of(case).segments(case.seq)
    vector = formats.of(case.dtype).vector_bytes(dim)
    of_heads = [policy.slots(head, case.seq) for head in range(case.kv_heads)]
    slots = sum(map(sum, of_heads))
    stored = sum(
        count * slot_bytes(one, dim) for of_head in of_heads for count, one in zip(of_head, segments, strict=True)
    )
    kept = sum(
        state_bytes(one, dim) for of_head in of_heads for count, one in zip(of_head, segments, strict=True) if count
    )
    bias = 4 * slots if policy.biased else 0
    query = case.batch * case.heads * vector
    return {
        "full": Traffic(case.batch * case.kv_heads * case.seq * 2 * vector + query, query),
        "elastic": Traffic(case.batch * (stored + bias) + kept + query, query),
        "slots_only": Traffic(case.batch * (slots * 2 * vector + bias) + query, query),
    }


def slot_bytes(segment: Segment, dim: int) -> int:
    """Bytes of a segment's slot, key and value, without its bias."""
    return sum(one.vector_bytes(dim) + one.scale_bytes for one in formats.of_names(segment.keys, segment.values))


def state_bytes(segment: Segment, dim: int) -> int:
    """Bytes of what a segment's formats keep for one KV head."""
    return sum(one.state_bytes(dim) for one in formats.of_names(segment.keys, segment.values))


def traffic(case: AnyCase) -> dict[str, Traffic]:
    """Traffic per launch of each arm and of `slots_only`; without caches, as declared by the workload's file."""
    if case.kind.CACHE:
        return decode_traffic(case)
    moved = case.kind.traffic(case)
    return {"slots_only": moved["elastic"], **moved}


def byte_ceilings(moved: dict[str, Traffic]) -> Ceilings:
    """Totals and the largest speedups they allow."""
    full, elastic, slots_only = (moved[arm].total for arm in ("full", "elastic", "slots_only"))
    return Ceilings(full, elastic, full / elastic, full / slots_only, slots_only / elastic)


def layers(elastic_bytes: int, footprint_bytes: int, last_level_cache: int, budget: int) -> int:
    """How many caches a measurement rotates over so that each is cold when its turn comes (0: not even one fits).

    footprint_bytes: what one layer allocates, both arms.
    """
    between = math.ceil(COLD_FACTOR * last_level_cache / elastic_bytes)
    return min(between + 1, MOST_LAYERS, budget // footprint_bytes)


def reuse_bytes(arm_bytes: int, layer_count: int) -> int:
    """The least that an arm reads and writes between two visits of the same cache: all of its other caches."""
    return (layer_count - 1) * arm_bytes


def is_cold(elastic_bytes: int, layer_count: int, last_level_cache: int) -> bool:
    """Whether rotating over `layer_count` caches flushes the last-level cache between visits."""
    return reuse_bytes(elastic_bytes, layer_count) >= COLD_FACTOR * last_level_cache


def gbps(nbytes: float, microseconds: float) -> float:
    """Bandwidth in GB/s (10^9 bytes)."""
    return nbytes / microseconds / 1e3


def curve_gbps(curve: Sequence[tuple[int, float]], nbytes: float) -> float | None:
    """Bandwidth that a pure pass of `nbytes` reaches, from a curve of (bytes, GB/s) in ascending order.

    Between two sizes a pass's time grows evenly with its bytes. None below the smallest size; the largest size's
    bandwidth above it.
    """
    if not curve or nbytes < curve[0][0]:
        return None
    if nbytes >= curve[-1][0]:
        return curve[-1][1]
    sizes = [size for size, _ in curve]
    above = bisect.bisect_right(sizes, nbytes)
    (small, slow), (large, fast) = curve[above - 1], curve[above]
    before, after = small / slow, large / fast
    return nbytes / (before + (after - before) * (nbytes - small) / (large - small))


def original_score(copy_gbps: float, peak_gbps: float, speedup: float) -> float:
    """The original's own score, with the real peak: min(1, 0.5 * bandwidth / peak + 0.5 * speedup)."""
    return min(1.0, 0.5 * copy_gbps / peak_gbps + 0.5 * speedup)
