"""Allows one run at a time per checkout. The operating system releases the lock when its holder ends.

Snakemake's lock, which a killed run leaves behind, is disabled (profiles/default).
"""

from __future__ import annotations

from pathlib import Path

import filelock

from elastickv import records
from elastickv.errors import ElastickvError
from elastickv.system import locks

LOCK = Path("build/.run.lock")


class RunLock:
    """The lock of the checkout in the current folder. `held` says whether this process has it."""

    def __init__(self, path: Path = LOCK):
        self._path = path
        self._lock = filelock.FileLock(path, timeout=0)

    @property
    def held(self) -> bool:
        return self._lock.is_locked

    def try_acquire(self) -> bool:
        """Takes the lock for the rest of this object's life, if it is free; True when this process has it.

        MachineError where the folder of builds cannot be written to.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            return False
        except OSError as error:
            raise records.cannot_write(self._path.parent, error) from error
        return True

    def refusal(self) -> ElastickvError:
        """The error of the second run. It names the holder of the lock if known."""
        holder = locks.holder(self._path)
        named = f" (process {holder})" if holder else ""
        return ElastickvError(
            f"a run is in progress in this checkout{named}: wait for it or stop it, or use another clone"
        )
