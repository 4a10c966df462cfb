"""Reads one GPU through NVML (nvidia-ml-py): every reading is a value or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from elastickv import records

NO_LIBRARY = "nvidia-ml-py is not installed"
NO_SAMPLES = (0, 6)  # no process used the GPU: an empty answer, which the Python binding raises, and NOT_FOUND
# The second answers on newer GPUs where the first does not; both give samples with pid, smUtil and timeStamp.
UTILISATION = ("ProcessUtilization", "ProcessesUtilizationInfo")
SHARED = "a MIG instance shares it with the other instances of its board"


@dataclass(frozen=True)
class Reading:
    """A value that the machine reported, or (value None) the reason why it did not."""

    value: Any
    reason: str | None = None

    def map(self, of: Callable[[Any], Any]) -> Reading:
        """`of` its value, where there is one."""
        return self if self.value is None else Reading(of(self.value))

    def to_json(self) -> records.Json:
        """As records state it."""
        return {"value": self.value} | ({} if self.reason is None else {"reason": self.reason})


def opened(library: Any = None) -> tuple[Any, str | None]:
    """The initialised module pynvml (or `library` instead), or None with the reason."""
    try:
        if library is None:
            import pynvml as library
        library.nvmlInit()
    except ImportError:
        return None, NO_LIBRARY
    except library.NVMLError as error:
        return None, f"NVML: {error}"
    return library, None


def nvidia_driver() -> str | None:
    """Version of the NVIDIA driver ("580.159.04"), or None if NVML does not report it."""
    library, _ = opened()
    if library is None:
        return None
    try:
        return str(library.nvmlSystemGetDriverVersion())
    except library.NVMLError:
        return None


def any_split() -> bool:
    """Whether MIG is on for some board of this machine, visible to this process or not."""
    library, _ = opened()
    try:
        count = library.nvmlDeviceGetCount() if library else 0
        boards = [Nvml(library.nvmlDeviceGetUUID(library.nvmlDeviceGetHandleByIndex(index))) for index in range(count)]
    except library.NVMLError:
        return False
    modes = (board.read("MigMode").value for board in boards)
    return any(mode is not None and mode[0] == 1 for mode in modes)


class Nvml:
    """One GPU. For a MIG instance, clocks, power and modes are read from its board."""

    def __init__(self, uuid: str, library: Any = None):
        self._own = self._board = None
        self._library, self.reason = opened(library)
        if self._library is None:
            return
        try:
            self._own = self._board = self._library.nvmlDeviceGetHandleByUUID(uuid)
            if uuid.startswith("MIG-"):
                self._board = self._library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self._own)
        except self._library.NVMLError as error:
            self._own = self._board = None
            self.reason = f"NVML: {error}"

    def read(self, function: str, *arguments: Any) -> Reading:
        """The board's answer to `nvmlDeviceGet<function>`."""
        return self._ask(self._board, function, *arguments)

    def read_own(self, function: str, *arguments: Any) -> Reading:
        """The same of the instance, where the GPU is one."""
        return self._ask(self._own, function, *arguments)

    def read_alone(self, function: str, *arguments: Any) -> Reading:
        """The board's answer where this process can have the whole board: of an instance it would be others' too."""
        return Reading(None, SHARED) if self._own is not self._board else self.read(function, *arguments)

    def _ask(self, handle: Any, function: str, *arguments: Any) -> Reading:
        if handle is None:
            return Reading(None, self.reason)
        library = self._library
        try:
            return Reading(getattr(library, f"nvmlDeviceGet{function}")(handle, *arguments))
        except (library.NVMLError, library.NVMLLibraryMismatchError) as error:  # the latter: the driver is too old
            idle = function in UTILISATION and getattr(error, "value", None) in NO_SAMPLES
            return Reading([]) if idle else Reading(None, f"NVML: {error}")

    def utilisation(self, since: int) -> Reading:
        """The board's samples of which process used it how much, later than `since` (the driver's time stamps)."""
        first = self.read(UTILISATION[0], since)
        second = first if first.value is not None else self.read(UTILISATION[1], since)
        return first if second.value is None else second

    def process_name(self, pid: int) -> str | None:
        """Name of a process on the GPU as the driver knows it, without its folder."""
        if self._library is None:
            return None
        try:
            return self._library.nvmlSystemGetProcessName(pid).split(" ")[0].rsplit("/", 1)[-1] or None
        except (self._library.NVMLError, self._library.NVMLLibraryMismatchError):
            return None
