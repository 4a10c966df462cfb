"""Facts of the one GPU that a worker sees, by NVML, the same for every engine."""

from __future__ import annotations

import os
from typing import Any

from elastickv.device.nvml import Nvml

UNNAMED = "NVIDIA GPU (NVML does not tell its name)"
MEMORY_CLOCK = 2  # nvmlClockType


def _read(function: str, *arguments: Any) -> Any:
    """A reading of the GPU in CUDA_VISIBLE_DEVICES, or None where NVML or the device does not offer it."""
    return Nvml(os.environ.get("CUDA_VISIBLE_DEVICES", "")).read_own(function, *arguments).value


def facts() -> dict[str, Any]:
    """Name, compute capability, memory; `peak_gbps` is bus width x memory clock (both edges), null where not told."""
    name, capability = _read("Name"), _read("CudaComputeCapability")
    memory, bits = _read("MemoryInfo"), _read("MemoryBusWidth")
    mhz = _read("MaxClockInfo", MEMORY_CLOCK)
    return {
        "name": name or UNNAMED,
        "compute_capability": ".".join(map(str, capability)) if capability else None,
        "memory_bytes": memory.total if memory else None,
        "peak_gbps": 2 * bits / 8 * mhz / 1e3 if bits and mhz else None,
    }


def used_bytes() -> int | None:
    """Memory in use on the GPU, by whoever; None where it does not tell."""
    memory = _read("MemoryInfo")
    return memory.used if memory else None
