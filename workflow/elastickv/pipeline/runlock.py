"""One run at a time in a checkout: the kernel drops the lock with its holder, so nothing is ever unlocked by hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import filelock

from elastickv import records
from elastickv.errors import ElastickvError

LOCK = Path("build/.run.lock")
NAMED_WITHIN = 1.0  # seconds that who takes the lock has for writing down who that is


class RunInProgress(ElastickvError):
    """Another run holds this checkout."""

    def __init__(self, holder: str):
        super().__init__(
            f"a run is in progress in this checkout{f' (process {holder})' if holder else ''}: "
            "wait for it or stop it, or use another clone"
        )


class RunLock:
    """The lock of the checkout in the current folder. `held` says whether this process has it.

    MachineError where the folder of builds cannot be written to.
    """

    def __init__(self, path: Path = LOCK):
        self.holder = path.with_suffix(".holder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise records.cannot_write(path, error) from error
        self._lock = filelock.FileLock(path, timeout=0)

    @property
    def held(self) -> bool:
        return self._lock.is_locked

    def try_acquire(self) -> bool:
        """Takes the lock for the rest of this object's life, if it is free; True when this process has it."""
        if self.held:
            return True
        try:
            self._lock.acquire()
            self.holder.write_text(str(os.getpid()), encoding="ascii")
        except filelock.Timeout:
            return False
        except OSError as error:
            raise records.cannot_write(self.holder.parent, error) from error
        return True

    def refusal(self) -> RunInProgress:
        """The error that names the holder; one that has only just taken the lock gets a moment to say who it is."""
        last = time.monotonic() + NAMED_WITHIN
        while not (holder := self._holder()) and time.monotonic() < last:
            time.sleep(0.02)
        return RunInProgress(holder)

    def _holder(self) -> str:
        """The process that the holder's file names, or nothing: not yet written, or of a run that is over."""
        import psutil

        try:
            holder = self.holder.read_text(encoding="ascii").strip()
            return holder if psutil.pid_exists(int(holder)) else ""
        except (OSError, ValueError, OverflowError):
            return ""
