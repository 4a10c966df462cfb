"""The devices of this machine: facts, locks, state and the backends that run kernels on them.

Importing this needs no GPU library: the CUDA driver is called through ctypes, NVML through nvidia-ml-py if installed.
"""

from elastickv.device.driver import cuda_driver_version, expected_gpus, gpu_names, gpus, visible_gpus
from elastickv.device.facts import identity, resolve_backend, software
from elastickv.device.host import cpu_model
from elastickv.device.lease import exclusive_device
from elastickv.device.nvml import nvidia_driver
from elastickv.device.state import State

__all__ = [
    "State",
    "cpu_model",
    "cuda_driver_version",
    "exclusive_device",
    "expected_gpus",
    "gpu_names",
    "gpus",
    "identity",
    "nvidia_driver",
    "resolve_backend",
    "software",
    "state_of",
    "uuids",
    "visible_gpus",
]


def uuids(backend: str) -> list[str | None]:
    """The GPUs that a backend may measure on, as values of CUDA_VISIBLE_DEVICES; for the CPU, [None]."""
    return [*visible_gpus()] if backend == "cuda" else [None]


def state_of(backend: str, uuid: str | None = None) -> State:
    """The state reader of the device a backend runs on; of a GPU the first visible one, where none is named."""
    from elastickv.device.cpu_state import CpuState
    from elastickv.device.gpu_state import GpuState

    if backend != "cuda":
        return CpuState()
    return GpuState(uuid or next(iter(visible_gpus()), ""))
