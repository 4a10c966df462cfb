"""What this machine is, who may use it now, and what state it is in.

Importing this needs no GPU library: the CUDA driver is asked through ctypes, NVML through nvidia-ml-py where present.
"""

from elastickv.device.cpu_state import CpuState
from elastickv.device.driver import CUDA_SUCCESS, cuda_driver_version, expected_gpus, gpu_names, gpus, visible_gpus
from elastickv.device.facts import cpu_model, nvidia_driver, resolve_backend, software
from elastickv.device.gpu_state import GpuState
from elastickv.device.lease import exclusive, exclusive_cpu, exclusive_gpu, lock_folder
from elastickv.device.state import State

__all__ = [
    "CUDA_SUCCESS",
    "CpuState",
    "GpuState",
    "State",
    "cpu_model",
    "cuda_driver_version",
    "exclusive",
    "exclusive_cpu",
    "exclusive_gpu",
    "expected_gpus",
    "gpu_names",
    "gpus",
    "lock_folder",
    "nvidia_driver",
    "resolve_backend",
    "software",
    "state_of",
    "visible_gpus",
]


def state_of(backend: str, uuid: str | None = None) -> State:
    """The state reader of the device a backend runs on; of a GPU the first visible one, where none is named."""
    if backend != "cuda":
        return CpuState()
    return GpuState(uuid or next(iter(visible_gpus()), ""))
