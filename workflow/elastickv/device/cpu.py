"""Runs the C++ kernels (`kernels/<name>/kernel.cpp`) through ctypes. A launch returns when its work is done."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elastickv import records
from elastickv.device import host, limits
from elastickv.device.base import Call, Lap, Mode, memory_budget
from elastickv.device.params import DecodeParams
from elastickv.errors import MachineError
from elastickv.schemas.case import AnyCase

LIBRARY = "libelastickv.so"
ALIGNMENT = 256
HUGE_PAGE = 2 << 20
# Facts that distinguish kinds of machines; the same model with other cores or threads gives other times.
IDENTITY = ("name", "architecture", "logical_cores", "threads", "last_level_cache_bytes", "instruction_sets")
NO_PEAK = "the processor does not report its memory bandwidth"
# How long idle OpenMP threads spin before they sleep: long enough to stay awake between the launches of a replay (tens
# of microseconds), short enough not to take the cores from others for milliseconds, as the default does.
SPIN_COUNT = "20000"


@dataclass(frozen=True)
class Program:
    """Launches to replay: kernel numbers and addresses of parameter blocks, as the library wants them."""

    length: int
    kernels: Any
    params: Any
    calls: tuple[Call, ...]  # keeps the parameter blocks alive


def _load(path: Path) -> ctypes.CDLL:
    if not path.is_file():
        raise MachineError(f"{path} does not exist", "elastickv build cpu")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read once, when the OpenMP runtime is loaded
    try:
        library = ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise MachineError(f"{path} cannot be loaded: {error}", "elastickv build cpu") from error
    library.elastickv_run.restype = ctypes.c_double
    library.elastickv_run.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    library.elastickv_set_bytes.argtypes = [ctypes.c_void_p, ctypes.c_longlong, ctypes.c_int]
    library.elastickv_decode_workspace.restype = ctypes.c_longlong
    library.elastickv_decode_workspace.argtypes = [ctypes.c_void_p]
    library.elastickv_kernel.argtypes = [ctypes.c_char_p]
    library.elastickv_instructions.restype = ctypes.c_char_p
    library.elastickv_target.restype = ctypes.c_char_p
    library.elastickv_use_target.argtypes = [ctypes.c_char_p]
    return library


class CpuBackend:
    """All cores this process may use, one launch after the other. What each method promises: `base.Backend`."""

    name = "cpu"

    def __init__(self, build_dir: Path):
        """Loads `build_dir`/libelastickv.so. Raises MachineError when it is missing or does not fit this machine."""
        self._library = _load(Path(build_dir) / LIBRARY)
        self._numbers: dict[str, int] = {}  # by kernel, as the library calls it
        # The library's own choice, made again: it is one per process, and another backend may have changed it.
        next(name for name in self.targets() if not self._library.elastickv_use_target(name.encode()))
        self._memory: dict[int, Any] = {}  # address -> what owns it
        if "OMP_NUM_THREADS" not in os.environ:
            self.use_threads(host.usable_cores())

    def targets(self) -> list[str]:
        """The processors that the library has kernels for, the best one first; the best that runs here is in use."""
        names = (self._library.elastickv_target(number) for number in itertools.count())
        return [name.decode() for name in itertools.takewhile(lambda name: name is not None, names)]

    def use_target(self, name: str) -> None:
        """Takes another target's kernels. Raises MachineError when they cannot run here."""
        if self._library.elastickv_use_target(name.encode()):
            known = ", ".join(self.targets())
            raise MachineError(f"CPU kernels for {name} cannot run here", f"one that this processor runs, of: {known}")

    def use_threads(self, count: int) -> None:
        """Threads of every launch from now on (workspaces depend on it: ask before allocating them)."""
        self._library.elastickv_set_threads(count)

    def facts(self) -> records.Json:
        """The device part of a record. `uuid` is the same for all machines of the same kind."""
        machine = {**host.facts()._asdict(), "threads": self._library.elastickv_threads()}
        identity = json.dumps({key: machine[key] for key in IDENTITY}).encode()
        return {
            **machine,
            "uuid": f"CPU-{hashlib.sha256(identity).hexdigest()[:32]}",
            "compiled_for": self._library.elastickv_instructions().decode(),
            "driver": None,
            "driver_reason": "a CPU has none",
            "peak_gbps": None,
            "peak_gbps_reason": NO_PEAK,
        }

    def memory_budget(self) -> int:
        return memory_budget(self.name, host.available_memory())

    def supports(self, case: AnyCase) -> str | None:
        limit = limits.on_cpu(case)
        return limit.reason if limit else None

    def allocate(self, nbytes: int) -> int:
        """Address of `nbytes` zeroed bytes, 256-byte aligned; large ones on huge pages where the system has them.

        Raises MemoryError when they exceed what this process may fill (Linux would promise more, then kill it).
        """
        if nbytes >= HUGE_PAGE and nbytes > host.available_memory():  # to ask takes a millisecond, small ones are many
            raise MemoryError(f"{nbytes / 1e9:.3g} GB requested, {host.available_memory() / 1e9:.3g} GB available")
        address, owner = _pages(nbytes) if nbytes >= HUGE_PAGE else _small(nbytes)
        self._memory[address] = owner
        self.fill_bytes(address, nbytes, 0)  # by the threads that use it: no page fault is left to a timed launch
        return address

    def free_all(self) -> None:
        self._memory.clear()

    def write(self, address: int, array: Any) -> None:
        array = np.ascontiguousarray(array)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def read(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A copy of the array at `address`; bfloat16 is read as uint16."""
        array = np.empty(shape, dtype)
        ctypes.memmove(array.ctypes.data, address, array.nbytes)
        return array

    def fill_bytes(self, address: int, nbytes: int, byte: int) -> None:
        self._library.elastickv_set_bytes(address, nbytes, byte)

    def decode_workspace(self, params: DecodeParams) -> int:
        """Bytes of workspace that a decode launch needs: one partial state per thread."""
        return self._library.elastickv_decode_workspace(ctypes.addressof(params))

    def decode_shape(self, params: DecodeParams) -> None:
        """None: each thread takes an equal part of all rows."""

    def launch(self, call: Call) -> None:
        self.seconds(self.program([call], Mode()))

    def launch_mode(self, wanted: str) -> str:
        """Always `plain`: a launch returns when its work is done."""
        return "plain"

    def _number(self, kernel: str) -> int:
        """What the library calls a kernel. Raises MachineError when it lacks it."""
        if kernel not in self._numbers:
            self._numbers[kernel] = self._library.elastickv_kernel(kernel.encode())
        if self._numbers[kernel] < 0:
            raise MachineError(f"the CPU library has no kernel {kernel}", "elastickv build cpu")
        return self._numbers[kernel]

    def program(self, calls: list[Call], mode: Mode) -> Program:
        """The launches behind one native call. There are no graphs on a CPU: `mode` changes nothing."""
        numbers = (ctypes.c_int * len(calls))(*(self._number(call.kernel) for call in calls))
        blocks = (ctypes.c_void_p * len(calls))(*(ctypes.addressof(call.params) for call in calls))
        return Program(len(calls), numbers, blocks, tuple(calls))

    def seconds(self, *programs: Program, lead: Sequence[Program] = ()) -> float:
        """The sum of each program's time from the start of its first launch to the end of its last."""
        return sum(self._library.elastickv_run(one.length, one.kernels, one.params) for one in programs)

    def laps(self, *programs: Program, ahead: int) -> Iterator[Lap]:
        """Each replay by itself; between two, only the caller is at work, which is not told from idle time."""
        while True:
            yield Lap(self.seconds(*programs), 0.0)

    def synchronize(self) -> None:
        """Nothing to wait for: every launch returns when it is done."""


def _small(nbytes: int) -> tuple[int, Any]:
    owner = np.empty(nbytes + ALIGNMENT, np.uint8)
    return -(-owner.ctypes.data // ALIGNMENT) * ALIGNMENT, owner


def _pages(nbytes: int) -> tuple[int, Any]:
    """Anonymous pages at a multiple of 2 MiB. Raises MemoryError."""
    try:
        # Private: shared pages, mmap's default, are never huge ones.
        owner = mmap.mmap(-1, nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{nbytes / 1e9:.3g} GB: {error}") from error
    with contextlib.suppress(OSError):  # a kernel built without huge pages: the memory is as good, only slower
        owner.madvise(mmap.MADV_HUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(owner))
    return -(-start // HUGE_PAGE) * HUGE_PAGE, owner
