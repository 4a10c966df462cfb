"""Measurement locks: one lock file per GPU board and one for the CPU, shared by all users of this machine.

The operating system releases a lock when its holder ends, however it ends; the holder's worker ends with it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from elastickv.device import driver
from elastickv.errors import MachineError, UsageError
from elastickv.system import locks

FOLDER = Path("/tmp/elastickv-locks")  # not under TMPDIR, which a cluster may set for each job
TIMEOUT_SECONDS = 4 * 3600.0
TIMEOUT_VARIABLE = "ELASTICKV_LEASE_TIMEOUT"
POLL_SECONDS = 0.1


def lock_file(name: str) -> Path:
    """The lock of `name` ("cpu" or a board's UUID)."""
    return FOLDER / f"{name}.lock"


def timeout_seconds() -> float:
    """Longest wait for a device. ELASTICKV_LEASE_TIMEOUT (seconds) overrides it; anything but a number: UsageError."""
    given = os.environ.get(TIMEOUT_VARIABLE) or str(TIMEOUT_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise UsageError(f"{TIMEOUT_VARIABLE}={given!r}: must be a number of seconds >= 0")
    return seconds


@contextmanager
def one_of(names: Sequence[str], timeout: float | None = None) -> Iterator[str]:
    """Holds one of the locks `names`, whichever is or becomes free first; yields its name.

    Waits at most `timeout` seconds (None: `timeout_seconds()`), then raises MachineError that names the holders.
    """
    allowed = timeout_seconds() if timeout is None else timeout
    deadline, waiting = time.monotonic() + allowed, False
    while (held := _first_free(names)) is None:
        if time.monotonic() >= deadline:
            raise MachineError(
                f"in use by other measurements, and none was free within {allowed:g} s: {_holders(names)}",
                f"wait for it or stop it, or wait longer: {TIMEOUT_VARIABLE}=SECONDS",
            )
        if not waiting:
            print(f"elastickv: waiting for {_holders(names)}", file=sys.stderr, flush=True)
            waiting = True
        time.sleep(POLL_SECONDS)
    name, file = held
    with file:
        yield name


def _first_free(names: Sequence[str]) -> tuple[str, TextIO] | None:
    """The first of `names` that no process holds, and its file, now locked by this process."""
    try:
        for name in names:
            file = _open(lock_file(name))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                return name, file
    except OSError as error:
        raise MachineError(f"{FOLDER} cannot be used for locks: {error}", f"chmod 1777 {FOLDER}") from error
    return None


def _open(path: Path) -> TextIO:
    """A lock file, made if it is not there. Any user can open and lock it, which filelock refuses for others' files."""
    if not path.parent.exists():
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o1777)  # like /tmp
    if not path.exists():
        path.touch()
        path.chmod(0o644)
    return path.open()


def _holders(names: Sequence[str]) -> str:
    return "; ".join(f"{name}, held by {locks.holder_named(lock_file(name))}" for name in names)


@contextmanager
def exclusive_device(backend: str) -> Iterator[str | None]:
    """Holds the device that a backend measures on; yields what CUDA_VISIBLE_DEVICES selects the GPU by, None for a CPU.

    Of several visible GPUs it holds the one that is or becomes free first. The lock is the board's: its MIG instances
    have clocks and power in common, so they are never timed at once.
    """
    if backend != "cuda":
        with one_of(["cpu"]):
            yield None
        return
    visible = {gpu.physical: gpu.uuid for gpu in reversed(driver.gpus())}
    if not visible:
        raise MachineError("no NVIDIA GPU is visible", "nvidia-smi -L; echo $CUDA_VISIBLE_DEVICES")
    with one_of([*reversed(visible)]) as board:
        yield visible[board]
