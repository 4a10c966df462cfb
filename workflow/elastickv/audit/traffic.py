"""Bytes that one launch must move, implemented from the definitions (README, docs), not from the package's code."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, NamedTuple

from elastickv import formats, kinds
from elastickv.audit import policy

SCALE = 2  # bytes of the fp16 scale that a key or value stored in fewer than 16 bits a number has
BIAS = 4  # bytes of a slot's bias


class Moved(NamedTuple):
    """Bytes of one launch: both arms, the elastic arm had it fewer but no smaller slots, and what each arm writes."""

    full: int
    elastic: int
    slots_only: int
    written: dict[str, int]


def moved(case: dict[str, Any]) -> Moved:
    """Bytes of a canonical case."""
    count = OURS.get(case["workload"])
    return count(case) if count else _by_its_file(case)


def taken_from(case: dict[str, Any]) -> str | None:
    """A note that the bytes of a workload defined by its own file are not recomputed; None for other workloads."""
    name = case["workload"]
    return None if name in OURS else f"bytes of a launch are as counted by workload {name}"


def _by_its_file(case: dict[str, Any]) -> Moved:
    """The bytes as declared by the workload's file."""
    stated = kinds.of(case["workload"]).traffic(SimpleNamespace(**case))
    full, elastic, slots_only = stated["full"], stated["elastic"], stated.get("slots_only", stated["elastic"])
    return Moved(full.total, elastic.total, slots_only.total, written={"full": full.write, "elastic": elastic.write})


def _decode(case: dict[str, Any]) -> Moved:
    """Keys and values of every slot once, scales and biases where there are any, the query and the output once.

    The size of per-head state (such as a matrix) is taken from the format's file.
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
        written={"full": output, "elastic": output},
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
    output = tokens * vector
    return Moved(4 * tokens * vector, elastic, elastic, written={"full": output, "elastic": output})


OURS = {"decode": _decode, "elementwise": _elementwise}  # workloads whose bytes are computed here
