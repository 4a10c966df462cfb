"""Bytes that one launch has to move, written from the definitions (README, docs) and not from `roofline.py`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from elastickv import formats

SCALE = 2  # bytes of the fp16 scale of a key or value that is stored otherwise than the full cache
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
    tokens, dim, element = case["seq"], case["dim"], _bits(case["dtype"]) // 8
    between = max(0, tokens - case["sinks"] - case["window"])
    groups = between // case["compress"]
    exact = tokens - groups * case["compress"]
    names = [case.get(name, case["cache_dtype"]) for name in ("key_dtype", "value_dtype")]
    middle = sum(dim * _bits(name) // 8 + (SCALE if name != case["dtype"] else 0) for name in names)
    kept = sum(case["kv_heads"] * formats.of(name).state_bytes(dim) for name in names) if groups else 0
    bias = BIAS * (exact + groups) if case["bias"] != "none" else 0
    caches = case["batch"] * case["kv_heads"]
    output = case["batch"] * case["heads"] * dim * element
    uncompressed = 2 * dim * element
    return Moved(
        full=caches * tokens * uncompressed + 2 * output,
        elastic=caches * (exact * uncompressed + groups * middle + bias) + kept + 2 * output,
        slots_only=caches * ((exact + groups) * uncompressed + bias) + 2 * output,
        written=output,
    )


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
