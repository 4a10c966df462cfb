"""Measurement locks: one lock file per GPU board and one for the CPU, shared by all users.

The operating system releases a lock with the last process that has its file open, so a crash never leaves one behind.
The holder writes its identity to the file; an entry of an earlier holder is recognised by its process id.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elastickv.device import driver
from elastickv.errors import MachineError, UsageError

LOCKS = Path("/tmp")
FOLDER = "elastickv-locks"
TIMEOUT_SECONDS = 4 * 3600.0
TIMEOUT_VARIABLE = "ELASTICKV_LEASE_TIMEOUT"
POLL_SECONDS = 0.1
LONGEST_COMMAND = 120
MOST_READ = 4096  # bytes of a lock file: any user may have written it
CLOCK_TICKS_APART = 1.0  # seconds between two readings of when one process began

_descriptors: set[int] = set()


def descriptors() -> tuple[int, ...]:
    """Open files of the leases that this process holds.

    A worker inherits them: its device stays locked until the worker ends, even if this process ends earlier.
    """
    return tuple(sorted(_descriptors))


def lock_folder() -> Path:
    """Machine-local folder for locks, the same for every process of every user on this machine.

    Not TMPDIR where that can be helped: a cluster may set it for each job, or to a shared file system. Raises
    MachineError where the folder cannot be used.
    """
    base = LOCKS if os.access(LOCKS, os.W_OK) else Path(tempfile.gettempdir())
    folder = base / FOLDER
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o1777)  # like /tmp: writable by all users, who cannot remove each other's files
    except FileExistsError:
        pass
    if folder.is_symlink() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise MachineError(f"{folder} cannot be used for locks: not a folder that all users may write to",
                           f"chmod 1777 {folder}")  # fmt: skip
    return folder


def lock_file(name: str) -> Path:
    """The lock of `name` ("cpu" or a board's UUID)."""
    return lock_folder() / f"{name}.lock"


def _open(path: Path) -> int:
    """A descriptor of a lock file that all users may open, made if it is not there.

    Two steps: with O_CREAT Linux refuses another user's file in a folder like /tmp (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                return _open_made(path, flags)
        else:
            os.fchmod(descriptor, 0o666)
            return descriptor


def _open_made(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags)
    except PermissionError:  # being made by another user, who has not opened it to all yet
        time.sleep(POLL_SECONDS)
        return os.open(path, flags)


def _try(name: str) -> int | None:
    """The descriptor of the lock `name`, now held, or None where another process holds it."""
    import filelock

    try:
        descriptor = _open(lock_file(name))
    except OSError as error:
        raise MachineError(f"{lock_file(name)} cannot be opened: {error.strerror}", f"rm {lock_file(name)}") from error
    try:
        held = filelock.lock_descriptor(descriptor, blocking=False)
    except BaseException:
        os.close(descriptor)
        raise
    if not held:
        os.close(descriptor)
        return None
    _sign(descriptor)
    return descriptor


def _sign(descriptor: int) -> None:
    """Writes the holder's identity to the lock file. With a full disk, only the identity is lost."""
    import psutil

    process = psutil.Process()
    command = " ".join(process.cmdline())[:LONGEST_COMMAND]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    holder = {"pid": process.pid, "began": process.create_time(), "user": user, "command": command, "since": now}
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def holder(name: str) -> str:
    """The holder of the lock `name` according to its file: "process 123 of anna (command), since …"."""
    try:
        with lock_file(name).open("rb") as file:
            found = json.loads(file.read(MOST_READ))
        pid, began = int(found["pid"]), float(found["began"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "a process that its lock file does not name"
    if not _is_there(pid, began):
        return "a process that its lock file does not name (the one it names has ended; a worker of it may be left)"
    user, command, since = (_printable(found.get(key)) for key in ("user", "command", "since"))
    return f"process {pid} of {user} ({command}), since {since}"


def _is_there(pid: int, began: float) -> bool:
    import psutil

    try:
        return abs(psutil.Process(pid).create_time() - began) <= CLOCK_TICKS_APART
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):
        return False


def _printable(text: Any) -> str:
    """Lock-file contents are untrusted: returns one line without control characters."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[: LONGEST_COMMAND + 1] or "?"


def timeout_seconds() -> float:
    """Longest wait for a device. ELASTICKV_LEASE_TIMEOUT (seconds) overrides it; anything but a number: UsageError."""
    found = os.environ.get(TIMEOUT_VARIABLE)
    if not found:
        return TIMEOUT_SECONDS
    try:
        seconds = float(found)
    except ValueError:
        seconds = float("nan")
    if not seconds >= 0:
        raise UsageError(f"{TIMEOUT_VARIABLE}={found!r}: must be a number of seconds >= 0")
    return seconds


@contextmanager
def one_of(names: Sequence[str], timeout: float | None = None) -> Iterator[str]:
    """Holds one of the locks `names`, whichever is or becomes free first; yields its name.

    Waits at most `timeout` seconds (None: `timeout_seconds()`), then raises MachineError that names the holders.
    """
    allowed = timeout_seconds() if timeout is None else timeout
    deadline, waiting = time.monotonic() + allowed, False
    while True:
        for name in names:
            descriptor = _try(name)
            if descriptor is not None:
                break
        else:
            if time.monotonic() >= deadline:
                raise _refusal(names, allowed)
            if not waiting:
                print(f"elastickv: waiting for {_all_holders(names)}", file=sys.stderr, flush=True)
                waiting = True
            time.sleep(POLL_SECONDS)
            continue
        break
    _descriptors.add(descriptor)
    try:
        yield name
    finally:
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _all_holders(names: Sequence[str]) -> str:
    return "; ".join(f"{name}, held by {holder(name)}" for name in names)


def _refusal(names: Sequence[str], waited: float) -> MachineError:
    return MachineError(
        f"in use by other measurements, and none was free within {waited:g} s: {_all_holders(names)}",
        f"wait for it or stop it, or wait longer: {TIMEOUT_VARIABLE}=SECONDS",
    )


def exclusive(name: str, timeout: float | None = None) -> Any:
    """Holds the machine-wide lock `name` ("cpu" or a board's UUID)."""
    return one_of([name], timeout)


def exclusive_cpu() -> Any:
    """Held while anything is timed on the CPU."""
    return exclusive("cpu")


@contextmanager
def exclusive_gpu() -> Iterator[str]:
    """Holds one visible GPU, whichever is or becomes free first; yields what CUDA_VISIBLE_DEVICES selects it by.

    The lock is the board's: its MIG instances have clocks and power in common, so they are never timed at once.
    """
    visible = driver.gpus()
    if not visible:
        raise MachineError("no NVIDIA GPU is visible", "nvidia-smi -L; echo $CUDA_VISIBLE_DEVICES")
    boards = list(dict.fromkeys(gpu.physical for gpu in visible))
    with one_of(boards) as board:
        yield next(gpu.uuid for gpu in visible if gpu.physical == board)


@contextmanager
def exclusive_device(backend: str) -> Iterator[str | None]:
    """Holds the device that a backend measures on; yields the GPU's UUID (`exclusive_gpu`), or None on the CPU."""
    with exclusive_gpu() if backend == "cuda" else exclusive_cpu() as name:
        yield name if backend == "cuda" else None
