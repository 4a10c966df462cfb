"""Facts of the one GPU that a worker sees, by NVML, the same for every engine."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from elastickv.device.nvml import Nvml

UNNAMED = "NVIDIA GPU (NVML does not report its name)"
MEMORY_CLOCK = 2  # nvmlClockType


def _read(function: str, *arguments: Any) -> Any:
    """A reading of the GPU in CUDA_VISIBLE_DEVICES, or None where NVML or the device does not offer it."""
    return Nvml(os.environ.get("CUDA_VISIBLE_DEVICES", "")).read_own(function, *arguments).value


class Gpu(NamedTuple):
    """Facts about a GPU for a record's `device`, other than its identity; None if unknown."""

    name: str
    compute_capability: str | None
    memory_bytes: int | None
    peak_gbps: float | None


def facts() -> Gpu:
    """The GPU; `peak_gbps` is bus width x memory clock (both edges)."""
    name, capability = _read("Name"), _read("CudaComputeCapability")
    memory, bits = _read("MemoryInfo"), _read("MemoryBusWidth")
    mhz = _read("MaxClockInfo", MEMORY_CLOCK)
    return Gpu(
        name=name or UNNAMED,
        compute_capability=".".join(map(str, capability)) if capability else None,
        memory_bytes=memory.total if memory else None,
        peak_gbps=2 * bits / 8 * mhz / 1e3 if bits and mhz else None,
    )


def used_bytes() -> int | None:
    """Memory in use on the GPU by all processes; None if unknown."""
    memory = _read("MemoryInfo")
    return memory.used if memory else None
