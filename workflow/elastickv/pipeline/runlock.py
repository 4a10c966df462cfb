"""Allows one run at a time per checkout. The operating system releases the lock when its holder ends.

Snakemake's lock, which a killed run leaves behind, is disabled (profiles/default).
"""

from __future__ import annotations

from pathlib import Path

import filelock

from elastickv import records
from elastickv.errors import ElastickvError
from elastickv.system import locks

LOCK = Path("build/.run.lock")  # of the checkout in the current folder


def take(lock: filelock.BaseFileLock) -> bool:
    """Takes the lock for the rest of its object's life, if it is free; True when this process has it.

    MachineError where the folder of builds cannot be written to.
    """
    folder = Path(lock.lock_file).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    except OSError as error:
        raise records.cannot_write(folder, error) from error
    return True


def refusal(path: Path = LOCK) -> ElastickvError:
    """The error of the second run. It names the holder of the lock if known."""
    holder = locks.holder(path)
    named = f" (process {holder})" if holder else ""
    return ElastickvError(f"a run is in progress in this checkout{named}: wait for it or stop it, or use another clone")
