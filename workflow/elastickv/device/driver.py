"""NVIDIA GPUs according to the CUDA driver, through ctypes: imports no GPU library and creates no context.

Not by cuda-bindings: 12.9 raises an error on every call of a driver before CUDA 12.0, whose version the doctor has to
name, and every environment would need it, of which those with torch hold another major version.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import uuid
from pathlib import Path
from typing import Any, NamedTuple

CUDA_SUCCESS = 0
LIBRARY = "libcuda.so.1"
DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")


class Attribute(enum.IntEnum):
    """CUdevice_attribute."""

    SM_KHZ = 13
    MEMORY_KHZ = 36
    L2_BYTES = 38
    CAPABILITY_MAJOR = 75
    CAPABILITY_MINOR = 76


class Gpu(NamedTuple):
    """One GPU that this process may use.

    uuid: what CUDA_VISIBLE_DEVICES selects it by ("GPU-…", or "MIG-…" of an instance). physical: the UUID of the board,
    which instances share with its clocks and its power. index: its number in CUDA's order.
    """

    uuid: str
    physical: str
    index: int


def load() -> ctypes.CDLL | None:
    """The CUDA driver library as it is, or None where there is none."""
    with contextlib.suppress(OSError):
        return ctypes.CDLL(LIBRARY)
    return None


def initialised() -> int | None:
    """What cuInit returns (0: CUDA_SUCCESS), or None where there is no driver library."""
    library = load()
    return None if library is None else library.cuInit(0)


def _number(function: str, *arguments: int, kind: type[Any] = ctypes.c_int) -> int:
    """What a function of the driver writes to its first argument; 0 without a driver, and where it refuses."""
    if initialised() != CUDA_SUCCESS:
        return 0
    value = kind(0)
    return value.value if getattr(load(), function)(ctypes.byref(value), *arguments) == CUDA_SUCCESS else 0


def gpus() -> list[Gpu]:
    """The GPUs this process may use, in CUDA's order.

    CUDA_VISIBLE_DEVICES (numbers, UUIDs or their beginnings) is the driver's to read, with CUDA_DEVICE_ORDER and
    whatever a cluster's allocation left visible. Of several MIG instances CUDA shows a process the first.
    """
    found = []
    for index in range(_number("cuDeviceGetCount")):
        if board := _uuid("cuDeviceGetUuid", index):
            # Drivers since CUDA 11.4 have a second version, which names the instance where the first names its board.
            own = _uuid("cuDeviceGetUuid_v2", index) or board
            found.append(Gpu(f"GPU-{own}" if own == board else f"MIG-{own}", f"GPU-{board}", index))
    return found


def _uuid(function: str, index: int) -> str | None:
    raw, ask = (ctypes.c_ubyte * 16)(), getattr(load(), function, None)
    return str(uuid.UUID(bytes=bytes(raw))) if ask and ask(raw, index) == CUDA_SUCCESS else None


def rated_mhz(selected: str) -> dict[str, int]:
    """Rated clocks ("SM", "memory") of the GPU of a UUID, which NVML's highest ones may exceed; empty where unknown."""
    kinds = {"SM": Attribute.SM_KHZ, "memory": Attribute.MEMORY_KHZ}
    khz = {name: attribute(gpu, kind) for gpu in gpus() if gpu.uuid == selected for name, kind in kinds.items()}
    return {name: clock // 1000 for name, clock in khz.items() if clock}


def attribute(gpu: Gpu, which: Attribute) -> int:
    """An attribute of a GPU, 0 if the driver does not report it."""
    return _number("cuDeviceGetAttribute", which, gpu.index)


def total_bytes(gpu: Gpu) -> int:
    """A GPU's memory in bytes, 0 if the driver does not report it."""
    return _number("cuDeviceTotalMem_v2", gpu.index, kind=ctypes.c_size_t)


def name(gpu: Gpu) -> str:
    """A GPU's name, "" if the driver does not report it."""
    text = ctypes.create_string_buffer(256)
    answered = load().cuDeviceGetName(text, len(text), gpu.index)
    return text.value.decode(errors="replace") if answered == CUDA_SUCCESS else ""


def visible_gpus() -> list[str]:
    """UUIDs ("GPU-…", "MIG-…") of the GPUs this process may use, in CUDA order; CUDA_VISIBLE_DEVICES is honoured."""
    return [gpu.uuid for gpu in gpus()]


def gpu_names() -> list[str]:
    """Names of the GPUs this process may use, in CUDA order."""
    return [name(gpu) for gpu in gpus()]


def cuda_driver_version() -> tuple[int, int] | None:
    """CUDA version that the driver supports, for example (13, 0); None without a driver."""
    version = _number("cuDriverGetVersion")
    return (version // 1000, version % 1000 // 10) if version else None


def expected_gpus(folder: Path = DRIVER_GPUS) -> int:
    """How many GPUs measurements may use at a time, at least 1, without asking the driver (a head node has none).

    Only an estimate for schedulers: the entries of CUDA_VISIBLE_DEVICES, otherwise the boards under /proc. The lease
    determines which process measures on which GPU.
    """
    boards = len(list(folder.glob("*")))
    listed = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    if not listed:
        return max(1, boards)
    if any(entry.strip().startswith("MIG-") for entry in listed):
        return 1
    return min(len(listed), boards) or len(listed)
