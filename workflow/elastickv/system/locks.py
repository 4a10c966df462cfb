"""The process that holds the lock of a file, according to the operating system."""

from __future__ import annotations

import os
import re
from pathlib import Path

LOCKS = Path("/proc/locks")
_LOCK = re.compile(r"FLOCK\s+\S+\s+\S+\s+(\d+)\s+\S+:\S+:(\d+)\s")


def holder(path: Path, locks: Path = LOCKS) -> int | None:
    """The process that holds a file's lock, or None. It does not try the lock, which could block a starting run."""
    try:
        inode, text = path.stat().st_ino, locks.read_text()
    except OSError:
        return None
    for pid, number in _LOCK.findall(text):
        if int(number) == inode and _has_open(int(pid), path):
            return int(pid)
    return None


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open; assumed if its open files are not visible to this user."""
    try:
        return any(os.path.samefile(entry, path) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())
    except OSError:
        return True
