"""The CUDA backend: CuPy loads the fatbin, keeps memory, streams, graphs and events; the driver launches by value."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elastickv.backends import cuda_decode, cuda_launch
from elastickv.backends.base import Call
from elastickv.errors import MachineError

BUDGET_SHARE = 0.8
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
NO_BINARY = ("CUDA_ERROR_NO_BINARY_FOR_GPU", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "CUDA_ERROR_INVALID_IMAGE")


@dataclass
class Program:
    """A captured graph, or the plain launches."""

    graph: Any
    calls: list[Call]


class CudaBackend:
    """One GPU: the first visible one. See `base.Backend` for what each method promises."""

    name = "cuda"

    def __init__(self, build: Path):
        try:
            import cupy
        except ImportError as error:
            raise MachineError(f"CuPy is missing: {error}", "elastickv env cuda") from error
        self._cupy, self._runtime = cupy, cupy.cuda.runtime
        if not cupy.cuda.is_available():
            raise MachineError("no NVIDIA driver or GPU is visible", "install the driver (nvidia-smi must list a GPU)")
        fatbin = Path(build) / "elastickv.fatbin"
        if not fatbin.exists():
            raise MachineError(f"{fatbin} is missing", "elastickv build cuda")
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._events = cupy.cuda.Event(), cupy.cuda.Event()
        self._module = self._load(fatbin)
        self._functions: dict[str, int] = {}
        self._allocated: list[int] = []
        self._properties = self._runtime.getDeviceProperties(0)
        self._facts = self._read_facts()

    def _load(self, fatbin: Path) -> Any:
        try:
            module = self._cupy.RawModule(path=str(fatbin))
            module.get_function("advance")
        except self._cupy.cuda.driver.CUDADriverError as error:
            if any(name in str(error) for name in NO_BINARY):
                raise MachineError(
                    f"{fatbin} holds no image that this GPU and driver can run ({error})",
                    "add the GPU's architecture to build.architectures, or update the driver"
                    " (images by nvcc 13 need 580, by NVRTC 12.9 525: build.compiler nvrtc)",
                ) from error
            raise
        return module

    def _read_facts(self) -> dict[str, Any]:
        from elastickv import device

        properties, runtime = self._properties, self._runtime
        major, minor = properties["major"], properties["minor"]
        clock_khz = runtime.deviceGetAttribute(36, 0)  # cudaDevAttrMemoryClockRate
        bus_bits = runtime.deviceGetAttribute(37, 0)  # cudaDevAttrGlobalMemoryBusWidth
        return {
            "name": properties["name"].decode(),
            "uuid": device.visible_gpus()[0],
            "compute_capability": f"{major}.{minor}",
            "driver": device.nvidia_driver(),
            "cuda_driver": ".".join(map(str, device.cuda_driver_version() or ())),
            "cuda_runtime": str(runtime.runtimeGetVersion()),
            "cupy": self._cupy.__version__,
            "multiprocessors": properties["multiProcessorCount"],
            "last_level_cache_bytes": properties["l2CacheSize"],
            "total_memory_bytes": properties["totalGlobalMem"],
            "memory_clock_khz": clock_khz,
            "memory_bus_bits": bus_bits,
            # Two transfers a clock (double data rate), as the datasheet counts.
            "peak_gbps": 2 * clock_khz * 1e3 * bus_bits / 8 / 1e9 if clock_khz and bus_bits else None,
        }

    def facts(self) -> dict[str, Any]:
        return dict(self._facts)

    def memory_budget(self) -> int:
        free, _ = self._runtime.memGetInfo()
        return int(free * BUDGET_SHARE)

    def supports(self, case: dict[str, Any]) -> str | None:
        if case["launch"] == "dependent":
            return "launch: dependent is not built yet; plain and auto are"
        if case["workload"] == "decode" and case["dim"] not in cuda_decode.DIMS:
            allowed = ", ".join(map(str, cuda_decode.DIMS))
            return f"dim {case['dim']} has no decode kernel; dims that have one: {allowed}"
        return None

    def allocate(self, nbytes: int) -> int:
        try:
            address = self._runtime.malloc(max(nbytes, 1))
        except self._runtime.CUDARuntimeError as error:
            if error.status == OUT_OF_MEMORY:
                raise MemoryError(f"the GPU has no {nbytes / 1e9:.2f} GB left") from error
            raise
        self._allocated.append(address)
        self.fill_bytes(address, nbytes, 0)
        return address

    def free_all(self) -> None:
        self._stream.synchronize()
        while self._allocated:
            self._runtime.free(self._allocated.pop())

    def write(self, address: int, array: Any) -> None:
        array = np.ascontiguousarray(array)
        self._stream.synchronize()
        self._runtime.memcpy(address, array.ctypes.data, array.nbytes, self._runtime.memcpyHostToDevice)

    def read(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        array = np.empty(shape, dtype)
        self._stream.synchronize()
        self._runtime.memcpy(array.ctypes.data, address, array.nbytes, self._runtime.memcpyDeviceToHost)
        return array

    def fill_bytes(self, address: int, nbytes: int, byte: int) -> None:
        if nbytes:
            self._runtime.memsetAsync(address, byte, nbytes, self._stream.ptr)

    def decode_workspace(self, params: ctypes.Structure) -> int:
        return cuda_decode.workspace_bytes(params, self._facts["multiprocessors"])

    def _function(self, name: str) -> int:
        if name not in self._functions:
            kernel = self._module.get_function(name)
            self._functions[name] = kernel.kernel.ptr
        return self._functions[name]

    def launch(self, call: Call) -> None:
        chosen = cuda_launch.launch_of(call.kernel, call.params, self._facts["multiprocessors"])
        block = ctypes.c_void_p(ctypes.addressof(call.params))
        code = self._driver.cuLaunchKernel(
            ctypes.c_void_p(self._function(chosen.name)),
            *(ctypes.c_uint(extent) for extent in (*chosen.grid, 1, chosen.threads, 1, 1, chosen.shared_bytes)),
            ctypes.c_void_p(self._stream.ptr),
            ctypes.byref(block),
            None,
        )
        if code:
            raise RuntimeError(f"cuLaunchKernel({chosen.name}, grid {chosen.grid}) failed with CUDA error {code}")

    def program(self, calls: list[Call], graph: bool) -> Program:
        if not graph:
            return Program(None, list(calls))
        for call in calls:  # functions load before the capture: loading is not capturable
            self._function(cuda_launch.launch_of(call.kernel, call.params, self._facts["multiprocessors"]).name)
        with self._stream:
            self._stream.begin_capture()
            for call in calls:
                self.launch(call)
            captured = self._stream.end_capture()
            captured.upload(self._stream)
        return Program(captured, list(calls))

    def seconds(self, program: Program) -> float:
        begin, end = self._events
        begin.record(self._stream)
        if program.graph is not None:
            program.graph.launch(self._stream)
        else:
            for call in program.calls:
                self.launch(call)
        end.record(self._stream)
        end.synchronize()
        return self._cupy.cuda.get_elapsed_time(begin, end) / 1e3

    def synchronize(self) -> None:
        self._stream.synchronize()
