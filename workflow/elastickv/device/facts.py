"""Facts about this machine for records: processor, driver, software, and the backend that `auto` selects here."""

from __future__ import annotations

import os
import platform

from elastickv import records
from elastickv.device import driver, nvml
from elastickv.device.host import cpu_model
from elastickv.errors import MachineError


def identity(backend: str, uuid: str | None) -> records.Json:
    """The identity of a device in the record store: model and driver."""
    if backend == "cuda":
        return {"uuid": uuid, "cuda_driver": driver.cuda_driver_version(), "driver": nvml.nvidia_driver()}
    cores = {"cores": os.cpu_count(), "affinity": len(os.sched_getaffinity(0))}
    return {"cpu": cpu_model(), **cores, "machine": platform.machine()}


def resolve_backend(wanted: str) -> str:
    """`auto` -> cuda where a GPU is visible, else cpu. `cuda` without a GPU raises MachineError."""
    if wanted == "cpu":
        return "cpu"
    if driver.visible_gpus():
        return "cuda"
    if wanted == "cuda":
        raise MachineError(
            "backend: cuda, but no NVIDIA GPU is visible (driver missing, or CUDA_VISIBLE_DEVICES hides it)",
            "install the NVIDIA driver (nvidia-smi must list a GPU), or set backend: cpu",
        )
    return "cpu"


def software() -> dict[str, str]:
    """The software part of a record."""
    import numpy

    from elastickv import __version__

    return {
        "elastickv": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.release()}",
    }
