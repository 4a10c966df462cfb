"""The interface of backends. Implementations: `cuda.CudaBackend`, `cpu.CpuBackend`."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from elastickv import records
from elastickv.schemas.case import AnyCase


class Call(NamedTuple):
    """One kernel launch: the kernel's name and its filled parameter block (`params.block_of`)."""

    kernel: str
    params: ctypes.Structure


class Mode(NamedTuple):
    """How a program's launches reach the device.

    graph: as one captured graph. dependent: each may begin while the one before it still runs (programmatic dependent
    launch).
    """

    graph: bool = False
    dependent: bool = False


def memory_budget(backend: str, free: int) -> int:
    """Bytes that one measurement may allocate of `free` ones: other work needs memory too."""
    return int(free * {"cuda": 0.8, "cpu": 0.5}[backend])


class DecodeLaunch(NamedTuple):
    """Launch parameters of one decode. splits: blocks per row; warps: per block; staged: prefetch to shared memory."""

    kernel: str
    splits: int
    warps: int
    staged: bool


class Lap(NamedTuple):
    """One replay in an unbroken series: seconds that it took, and that the device was idle since the one before."""

    seconds: float
    idle: float


class Backend(Protocol):
    """Memory, launches and time on one device. Addresses are plain integers; nothing is shared between instances."""

    name: str

    def facts(self) -> records.Json:
        """The device part of a record: name, uuid, driver, last_level_cache_bytes, peak_gbps (None where unknown), …"""

    def memory_budget(self) -> int:
        """Bytes one measurement may allocate in all."""

    def supports(self, case: AnyCase) -> str | None:
        """None, or one sentence on why this backend cannot run `case` (status `unsupported`)."""

    def allocate(self, nbytes: int) -> int:
        """Address of `nbytes` zeroed bytes, 256-byte aligned. Raises MemoryError."""

    def free_all(self) -> None:
        """Frees all allocated memory."""

    def write(self, address: int, array: Any) -> None:
        """Copies a NumPy array to the device."""

    def read(self, address: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """Copies from the device; bfloat16 is read as uint16."""

    def fill_bytes(self, address: int, nbytes: int, byte: int) -> None:
        """memset; 0xFF poisons (a NaN in fp16, bf16 and fp32)."""

    def decode_workspace(self, params: ctypes.Structure) -> int:
        """Bytes of workspace that a decode launch with these parameters needs, each 0xff before its first launch."""

    def decode_shape(self, params: ctypes.Structure) -> DecodeLaunch | None:
        """Launch parameters of a decode, if the backend has several."""

    def launch(self, call: Call) -> None:
        """Enqueues one kernel."""

    def launch_mode(self, wanted: str) -> str:
        """`plain` or `dependent`: what a case's `launch` (perhaps `auto`) means on this device."""

    def program(self, calls: list[Call], mode: Mode) -> Any:
        """A replayable sequence: a CUDA graph, or the launches behind one call."""

    def seconds(self, *programs: Any, lead: Sequence[Any] = ()) -> float:
        """Replays `programs` once, one right behind the other, waits for them and returns the device time in seconds.

        lead: programs replayed just before, untimed: while they run the others are handed over, so that neither the
        host nor a program's first run after others is timed. A CPU, which does one thing after the other, ignores it.
        """

    def laps(self, *programs: Any, ahead: int) -> Iterator[Lap]:
        """Replays `programs` again and again and yields the device's time of each replay when it has ended.

        ahead: replays that are queued behind the one waited for, so that the device does not wait for the host. Closing
        the iterator waits for those. On a CPU, where a launch returns when it is done, none are queued.
        """

    def synchronize(self) -> None:
        """Waits for the device; raises if it reports an error."""
