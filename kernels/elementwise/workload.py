"""The workload `elementwise`: the original kernel's pass; measured by elastickv.workloads.elementwise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from elastickv.kinds import LARGEST_INT, Buffer, Buffered, Fault, Traffic

BUFFERS = ("q", "k", "v", "full0", "full1", "elastic0", "elastic1")  # inputs, and two outputs of each arm in turn


class Elementwise(Buffered):
    """A bandwidth exercise, not attention. The elastic arm has `compress` tokens to an anchor, the full arm one."""

    MEANING = "the original kernel's pass"
    TITLE = "elementwise pass (not attention)"
    KERNELS = ("elementwise",)
    TAKES = ("seq", "heads", "dim", "compress", "pass_order")

    def faults(self, case: Mapping[str, Any]) -> Iterator[Fault]:
        if case["seq"] * case["dim"] > LARGEST_INT:
            yield "seq", f"seq * dim must be at most {LARGEST_INT}, not {case['seq'] * case['dim']}"

    def buffers(self, case: Any) -> dict[str, Buffer]:
        return dict.fromkeys(BUFFERS, Buffer((case.heads, case.seq, case.dim)))

    def traffic(self, case: Any) -> dict[str, Traffic]:
        """In vectors of dim fp32 per head: A anchors, R groups that have a copy."""
        seq, compress = case.seq, case.compress
        vector = case.heads * case.dim * 4
        anchors = math.ceil(seq / compress)
        groups_with_copy = 0 if compress == 1 else seq // compress + (1 if seq % compress > 1 else 0)
        elastic = Traffic((3 * anchors + groups_with_copy) * vector, seq * vector)
        return {"full": Traffic(3 * seq * vector, seq * vector), "elastic": elastic}
