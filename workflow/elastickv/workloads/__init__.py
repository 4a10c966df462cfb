"""What is timed: `decode` (attention over a KV cache) and `elementwise` (the original's pass)."""

from __future__ import annotations

from elastickv.device.base import Backend
from elastickv.schemas.case import AnyCase
from elastickv.workloads.base import Workload


def create(backend: Backend, case: AnyCase) -> Workload:
    """The workload of a canonical case, allocated and filled on `backend`. Raises MemoryError when it does not fit."""
    if case.workload == "decode":
        from elastickv.workloads.decode import DecodeWorkload

        return DecodeWorkload(backend, case)
    from elastickv.workloads.elementwise import ElementwiseWorkload

    return ElementwiseWorkload(backend, case)
