"""Facts of the one GPU that a worker sees, by NVML (nvidia-ml-py), the same for every engine."""

from __future__ import annotations

import os
from typing import Any

UNNAMED = "NVIDIA GPU (NVML does not tell its name)"


def _read(function: str, *arguments: Any) -> Any:
    """A reading of the GPU in CUDA_VISIBLE_DEVICES, or None where NVML or the device does not offer it."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        return getattr(pynvml, function)(handle, *arguments)
    except ImportError:
        return None
    except (pynvml.NVMLError, AttributeError):
        return None


def facts() -> dict[str, Any]:
    """Name, compute capability, memory; `peak_gbps` is bus width x memory clock (both edges), null where not told."""
    name, capability = _read("nvmlDeviceGetName"), _read("nvmlDeviceGetCudaComputeCapability")
    memory, bits = _read("nvmlDeviceGetMemoryInfo"), _read("nvmlDeviceGetMemoryBusWidth")
    mhz = _read("nvmlDeviceGetMaxClockInfo", 2)  # NVML_CLOCK_MEM
    return {
        "name": name or UNNAMED,
        "compute_capability": ".".join(map(str, capability)) if capability else None,
        "memory_bytes": memory.total if memory else None,
        "peak_gbps": 2 * bits / 8 * mhz / 1e3 if bits and mhz else None,
    }


def used_bytes() -> int | None:
    """Memory in use on the GPU, by whoever; None where it does not tell."""
    memory = _read("nvmlDeviceGetMemoryInfo")
    return memory.used if memory else None
