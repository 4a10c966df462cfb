"""Bytes that one launch has to move, written from the definitions (README, docs) and not from `roofline.py`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from elastickv import formats
from elastickv.audit import policy

SCALE = 2  # bytes of the fp16 scale that a key or value stored in fewer than 16 bits a number has
BIAS = 4  # bytes of a slot's bias


class Moved(NamedTuple):
    """Bytes of one launch: both arms, the elastic arm had it fewer slots but no smaller ones, and what it writes."""

    full: int
    elastic: int
    slots_only: int
    written: int


def moved(case: dict[str, Any]) -> Moved:
    """Bytes of a canonical case."""
    return _decode(case) if case["workload"] == "decode" else _elementwise(case)


def _decode(case: dict[str, Any]) -> Moved:
    """Keys and values of every slot once, scales and biases where there are any, the query and the output once.

    How much a format keeps for each KV head (a matrix) only its file says.
    """
    dim, element = case["dim"], _bits(case["dtype"]) // 8
    kept = policy.kept(case)
    slots = sum(one.count for one in kept.segments)
    stored = sum(one.count * _vector(case, name) for one in kept.segments for name in one.names)
    of_heads = sum(one.heads * formats.of(name).state_bytes(dim) for one in kept.segments for name in one.names)
    bias = BIAS * slots if kept.biased else 0
    caches = case["batch"] * case["kv_heads"]
    output = case["batch"] * case["heads"] * dim * element
    uncompressed = 2 * dim * element
    return Moved(
        full=caches * case["seq"] * uncompressed + 2 * output,
        elastic=case["batch"] * (stored + bias) + of_heads + 2 * output,
        slots_only=case["batch"] * (slots * uncompressed + bias) + 2 * output,
        written=output,
    )


def _vector(case: dict[str, Any], name: str) -> int:
    """Bytes of a key or a value in this format."""
    return case["dim"] * _bits(name) // 8 + (SCALE if _bits(name) < 16 else 0)


def _bits(name: str) -> int:
    """Bits of a value: the first number in the name of how it is stored (fp16, int4)."""
    return int(re.findall(r"\d+", name)[0])


def _elementwise(case: dict[str, Any]) -> Moved:
    """q, k, v of the anchors, the previous output of every group that has a copy, and each output, all fp32."""
    tokens, compress = case["seq"], case["compress"]
    sizes = [min(compress, tokens - first) for first in range(0, tokens, compress)]
    anchors, with_copy = len(sizes), sum(size > 1 for size in sizes)
    vector = case["heads"] * case["dim"] * 4
    elastic = (3 * anchors + with_copy + tokens) * vector
    return Moved(full=4 * tokens * vector, elastic=elastic, slots_only=elastic, written=tokens * vector)
