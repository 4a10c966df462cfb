"""What this machine is, who may use it now, and what state it is in: facts, locks, clocks, throttling.

Importing this needs no GPU library: the CUDA driver is asked through ctypes, NVML through nvidia-ml-py where present.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elastickv.errors import MachineError

LOCK_TIMEOUT_SECONDS = 4 * 3600
LOCKS = Path("/tmp")
CUDA_SUCCESS = 0

# nvmlClocksEventReason bits that mean "slower than asked for": SW power cap is normal under load and not among them.
THROTTLE_REASONS = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


def _driver() -> ctypes.CDLL | None:
    """The initialised CUDA driver library, or None where there is none (or no device)."""
    for name in ("libcuda.so.1", "libcuda.so", "nvcuda.dll"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return library if library.cuInit(0) == CUDA_SUCCESS else None
    return None


def visible_gpus() -> list[str]:
    """UUIDs ("GPU-…") of the GPUs this process may use, in CUDA order; CUDA_VISIBLE_DEVICES is honoured."""
    library = _driver()
    count = ctypes.c_int(0)
    if library is None or library.cuDeviceGetCount(ctypes.byref(count)) != CUDA_SUCCESS:
        return []
    uuids = []
    for index in range(count.value):
        raw = (ctypes.c_ubyte * 16)()
        if library.cuDeviceGetUuid(raw, index) == CUDA_SUCCESS:
            text = bytes(raw).hex()
            uuids.append(f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
    return uuids


def gpu_names() -> list[str]:
    """Names of the GPUs this process may use, in CUDA order."""
    library = _driver()
    count = ctypes.c_int(0)
    if library is None or library.cuDeviceGetCount(ctypes.byref(count)) != CUDA_SUCCESS:
        return []
    name = ctypes.create_string_buffer(256)
    found = (library.cuDeviceGetName(name, len(name), index) == CUDA_SUCCESS for index in range(count.value))
    return [name.value.decode() for there in found if there]


def cuda_driver_version() -> tuple[int, int] | None:
    """CUDA version that the driver supports, for example (13, 0); None without a driver."""
    library = _driver()
    version = ctypes.c_int(0)
    if library is None or library.cuDriverGetVersion(ctypes.byref(version)) != CUDA_SUCCESS:
        return None
    return version.value // 1000, version.value % 1000 // 10


def nvidia_driver() -> str | None:
    """Version of the NVIDIA driver ("580.159.04"), or None where NVML does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None


def cpu_model() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def resolve_backend(wanted: str) -> str:
    """`auto` -> cuda where a GPU is visible, else cpu. `cuda` without a GPU raises MachineError."""
    if wanted == "cpu":
        return "cpu"
    if visible_gpus():
        return "cuda"
    if wanted == "cuda":
        raise MachineError(
            "backend: cuda, but no NVIDIA GPU is visible (driver missing, or CUDA_VISIBLE_DEVICES hides it)",
            "install the NVIDIA driver (nvidia-smi must list a GPU), or set backend: cpu",
        )
    return "cpu"


def lock_folder() -> Path:
    """Machine-local folder for locks, the same for every process of a user on this machine.

    Not TMPDIR where that can be helped: a cluster may set it for each job, or to a shared file system.
    """
    base = LOCKS if os.access(LOCKS, os.W_OK) else Path(tempfile.gettempdir())
    folder = base / f"elastickv-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def exclusive(name: str, timeout: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Holds the machine-wide lock `name` ("cpu" or a GPU UUID). The kernel frees it when the process dies."""
    import filelock

    lock = filelock.FileLock(lock_folder() / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"elastickv: waiting for another measurement on {name}", file=sys.stderr, flush=True)
        try:
            lock.acquire(timeout=timeout)
        except filelock.Timeout as error:
            raise MachineError(
                f"{name} is in use by another measurement ({lock.lock_file})", "wait for it or stop it"
            ) from error
    try:
        yield
    finally:
        lock.release()


def exclusive_cpu() -> Any:
    """Held while anything is timed on the CPU."""
    return exclusive("cpu")


@contextmanager
def exclusive_gpu() -> Iterator[str]:
    """Holds one visible GPU (the first that is free, else waits for the first); yields its UUID."""
    import filelock

    uuids = visible_gpus()
    for uuid in uuids:
        lock = filelock.FileLock(lock_folder() / f"{uuid}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        try:
            yield uuid
        finally:
            lock.release()
        return
    with exclusive(uuids[0]):
        yield uuids[0]


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


class GpuState:
    """NVML readings of one GPU. Every reading is None where the device or the library does not offer it."""

    def __init__(self, uuid: str):
        self._handle, self.reason = None, None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except ImportError:
            self.reason = "nvidia-ml-py is not installed"
        except pynvml.NVMLError as error:
            self.reason = f"NVML: {error}"

    def _read(self, function: str, *args: Any) -> Any:
        if self._handle is None:
            return None
        try:
            return getattr(self._nvml, function)(self._handle, *args)
        except (self._nvml.NVMLError, AttributeError):
            return None

    def throttled(self) -> str | None:
        """Why the GPU runs slower than asked for, or None."""
        bits = self._read("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        names = [name for bit, name in THROTTLE_REASONS.items() if bits & bit]
        return ", ".join(names) or None

    def snapshot(self) -> dict[str, Any]:
        """Clocks (MHz), temperature (C), power (W) and energy (J since driver load) now."""
        power, energy = self._read("nvmlDeviceGetPowerUsage"), self._read("nvmlDeviceGetTotalEnergyConsumption")
        return {
            "sm_mhz": self._read("nvmlDeviceGetClockInfo", 1),
            "memory_mhz": self._read("nvmlDeviceGetClockInfo", 2),
            "temperature_c": self._read("nvmlDeviceGetTemperature", 0),
            "power_w": None if power is None else power / 1e3,
            "energy_j": None if energy is None else energy / 1e3,
        }


class CpuState:
    """Load and frequency of the CPU."""

    reason = "not measured on CPU"

    def throttled(self) -> str | None:
        """The CPU does not tell."""
        return None

    def snapshot(self) -> dict[str, Any]:
        """Load average and frequency (MHz, None where the kernel hides it) now."""
        import psutil

        frequency = psutil.cpu_freq()
        return {
            "load_1min": os.getloadavg()[0],
            "mhz": frequency.current if frequency and frequency.current else None,
        }


def state_of(backend: str, uuid: str) -> GpuState | CpuState:
    """The state reader of the device a backend runs on."""
    return GpuState(uuid) if backend == "cuda" else CpuState()
