"""The CUDA backend: CuPy loads the fatbin, keeps memory, streams, graphs and events; the driver launches by value."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elastickv import records
from elastickv.device import driver, launches, limits
from elastickv.device.base import Call, DecodeLaunch, Mode, memory_budget
from elastickv.device.nvml import Reading
from elastickv.errors import MachineError
from elastickv.schemas.case import AnyCase, DecodeCase

PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CUlaunchAttributeID
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
DEFAULT_SHARED_BYTES = 48 << 10  # dynamic shared memory of a block without opting in to more
NO_BINARY = ("CUDA_ERROR_NO_BINARY_FOR_GPU", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "CUDA_ERROR_INVALID_IMAGE")
FIRST_KERNEL = "advance"  # of every image: tells whether one was loaded, and for which architecture it was compiled
DECODE = launches.of_kernel("decode")


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute of the driver: a number and a value of 64 bytes."""

    _fields_ = [("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_int), ("rest", ctypes.c_char * 60)]


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig of the driver."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("attribute_count", ctypes.c_uint),
    ]


@dataclass(frozen=True)
class Prepared:
    """One launch: the arguments of cuLaunchKernelEx, and the parameter block that they point to."""

    name: str
    arguments: tuple[Any, ...]
    params: ctypes.Structure


@dataclass(frozen=True)
class Program:
    """A captured graph, or the plain launches where `graph` is None."""

    graph: Any
    prepared: list[Prepared]


def _peak(clock_khz: int, bus_bits: int, instance: bool) -> Reading:
    """Bandwidth (10^9 bytes/s) as a datasheet counts it: two transfers a clock (double data rate)."""
    if instance:
        return Reading(None, "a MIG instance has an unknown share of the board's bandwidth")
    if not (clock_khz and bus_bits):
        return Reading(None, "the driver does not report the memory clock or the bus width")
    return Reading(2 * clock_khz * 1e3 * bus_bits / 8 / 1e9)


class CudaBackend:
    """One GPU: the first visible one. What each method promises: `base.Backend`."""

    name = "cuda"

    def __init__(self, build: Path):
        try:
            import cupy
        except ImportError as error:
            raise MachineError(f"CuPy is missing: {error}", "elastickv env cuda") from error
        self._cupy, self._runtime = cupy, cupy.cuda.runtime
        try:
            visible = cupy.cuda.is_available()
        except self._runtime.CUDARuntimeError as error:  # the driver is older than CuPy's CUDA
            raise MachineError(f"the NVIDIA driver cannot be used: {error}", "update the driver") from error
        if not visible:
            raise MachineError("no NVIDIA driver or GPU is visible", "install the driver (nvidia-smi must list a GPU)")
        fatbin = Path(build) / "elastickv.fatbin"
        if not fatbin.exists():
            raise MachineError(f"{fatbin} is missing", "elastickv build cuda")
        # Drivers before CUDA 11.8 lack it; images of this project need 12.0 and later.
        self._launch_kernel = driver.load().cuLaunchKernelEx
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._events = cupy.cuda.Event(), cupy.cuda.Event()
        self._module = self._load(fatbin)
        self._functions: dict[str, Any] = {}
        self._allocated: list[int] = []
        self._properties = self._runtime.getDeviceProperties(0)
        self._facts = self._read_facts()
        # Of the code that was loaded: an older architecture's PTX on a newer GPU lacks what the GPU could do.
        capability = self._module.get_function(FIRST_KERNEL).ptx_version
        shared_bytes = self._runtime.deviceGetAttribute(81, 0)  # cudaDevAttrMaxSharedMemoryPerMultiprocessor
        self._gpu = launches.Gpu(self._properties["multiProcessorCount"], capability, shared_bytes)

    def _load(self, fatbin: Path) -> Any:
        try:
            module = self._cupy.RawModule(path=str(fatbin))
            module.get_function(FIRST_KERNEL)
        except self._cupy.cuda.driver.CUDADriverError as error:
            if any(name in str(error) for name in NO_BINARY):
                raise MachineError(
                    f"{fatbin} holds no image that this GPU and driver can run ({error})",
                    "add the GPU's architecture to build.architectures, or update the driver"
                    " (images by nvcc 13 need 580, by NVRTC 12.9 525: build.compiler nvrtc)",
                ) from error
            raise
        return module

    def _read_facts(self) -> records.Json:
        from elastickv import device

        properties, runtime = self._properties, self._runtime
        major, minor = properties["major"], properties["minor"]
        clock_khz = runtime.deviceGetAttribute(36, 0)  # cudaDevAttrMemoryClockRate
        bus_bits = runtime.deviceGetAttribute(37, 0)  # cudaDevAttrGlobalMemoryBusWidth
        uuid = device.visible_gpus()[0]
        peak = _peak(clock_khz, bus_bits, instance=uuid.startswith("MIG-"))
        return {
            "name": properties["name"].decode(),
            "uuid": uuid,
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
            "peak_gbps": peak.value,
            **({"peak_gbps_reason": peak.reason} if peak.reason else {}),
        }

    def facts(self) -> records.Json:
        return dict(self._facts)

    def memory_budget(self) -> int:
        free, _ = self._runtime.memGetInfo()
        return memory_budget(self.name, int(free))

    def supports(self, case: AnyCase) -> str | None:
        limit = limits.on_cuda(case, self._gpu.capability)
        if limit:
            return limit.reason
        return DECODE.unfit(case, self._gpu) if isinstance(case, DecodeCase) else None

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
        """A copy of the array at `address`, after everything enqueued; bfloat16 is read as uint16."""
        array = np.empty(shape, dtype)
        self._stream.synchronize()
        self._runtime.memcpy(array.ctypes.data, address, array.nbytes, self._runtime.memcpyDeviceToHost)
        return array

    def fill_bytes(self, address: int, nbytes: int, byte: int) -> None:
        if nbytes:
            self._runtime.memsetAsync(address, byte, nbytes, self._stream.ptr)

    def decode_workspace(self, params: ctypes.Structure) -> int:
        return DECODE.workspace_bytes(params, self._gpu)

    def _function(self, name: str, shared_bytes: int) -> int:
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        kernel = self._functions[name]
        if shared_bytes > max(DEFAULT_SHARED_BYTES, kernel.max_dynamic_shared_size_bytes):
            kernel.max_dynamic_shared_size_bytes = shared_bytes
        return kernel.kernel.ptr

    def force(self, choices: launches.Forced) -> None:
        """Takes choices from the rules that launch decode, for a study."""
        self._gpu = self._gpu._replace(forced=choices)

    def decode_shape(self, params: ctypes.Structure) -> DecodeLaunch:
        return DecodeLaunch(*DECODE.described(params, self._gpu))

    def launch_mode(self, wanted: str) -> str:
        """`auto` is `dependent` where the device has it."""
        if wanted != "auto":
            return wanted
        return "dependent" if self._gpu.capability >= limits.DEPENDENT_CAPABILITY else "plain"

    def _prepare(self, call: Call, dependent: bool, stream: int | None = None) -> Prepared:
        chosen = launches.launch_of(call.kernel, call.params, self._gpu)
        block = ctypes.c_void_p(ctypes.addressof(call.params))
        attribute = LaunchAttribute(PROGRAMMATIC_STREAM_SERIALIZATION, value=int(dependent))
        config = LaunchConfig(
            (ctypes.c_uint * 3)(*chosen.grid),
            (ctypes.c_uint * 3)(chosen.threads, 1, 1),
            chosen.shared_bytes,
            self._stream.ptr if stream is None else stream,
            ctypes.pointer(attribute),
            int(dependent),
        )
        function = ctypes.c_void_p(self._function(chosen.name, chosen.shared_bytes))
        arguments = (ctypes.byref(config), function, ctypes.byref(block), None)
        return Prepared(chosen.name, arguments, call.params)

    def _enqueue(self, prepared: Prepared) -> None:
        code = self._launch_kernel(*prepared.arguments)
        if code:
            raise RuntimeError(f"the launch of {prepared.name} failed with CUDA error {code}")

    def launch(self, call: Call) -> None:
        self._enqueue(self._prepare(call, dependent=False))

    def launch_on(self, call: Call, stream: int) -> None:
        """Enqueues one kernel on another stream, given by its handle: for other timers than this class."""
        self._enqueue(self._prepare(call, dependent=False, stream=stream))

    def program(self, calls: list[Call], mode: Mode) -> Program:
        """The calls as one captured graph, or (without `mode.graph`) as launches with nothing left to look up."""
        # Loads functions, which a capture does not allow.
        prepared = [self._prepare(call, mode.dependent) for call in calls]
        if not mode.graph:
            return Program(None, prepared)
        with self._stream:
            self._stream.begin_capture()
            try:
                for one in prepared:
                    self._enqueue(one)
            finally:  # a stream left in capture would refuse everything else
                captured = self._stream.end_capture()
            captured.upload(self._stream)
        return Program(captured, prepared)

    def seconds(self, *programs: Program, lead: Sequence[Program] = ()) -> float:
        begin, end = self._events
        for program in lead:
            self._replay(program)
        begin.record(self._stream)
        for program in programs:
            self._replay(program)
        end.record(self._stream)
        end.synchronize()
        return self._cupy.cuda.get_elapsed_time(begin, end) / 1e3

    def _replay(self, program: Program) -> None:
        if program.graph is not None:
            program.graph.launch(self._stream)
        else:
            for one in program.prepared:
                self._enqueue(one)

    def synchronize(self) -> None:
        self._stream.synchronize()
