"""The process that holds the lock of a file, according to the operating system."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

LOCKS = Path("/proc/locks")
LONGEST_COMMAND = 120
_LOCK = re.compile(r"FLOCK\s+\S+\s+\S+\s+(\d+)\s+\S+:\S+:(\d+)\s")


def holder(path: Path) -> int | None:
    """The process that holds a file's lock, or None. It does not try the lock, which could block a starting run."""
    try:
        inode, text = path.stat().st_ino, LOCKS.read_text()
    except OSError:
        return None
    return next(
        (int(pid) for pid, number in _LOCK.findall(text) if int(number) == inode and _has_open(pid, path)), None
    )


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open; assumed if its open files are not visible to this user."""
    try:
        return any(os.path.samefile(entry, path) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())
    except OSError:
        return True


def holder_named(path: Path) -> str:
    """The holder for messages: `process 123 of anna (python -m elastickv measure …)`."""
    import psutil

    pid = holder(path)
    if pid is None:
        return "a process that this system does not show"
    try:
        process = psutil.Process(pid)
        return f"process {pid} of {process.username()} ({shlex.join(process.cmdline())[:LONGEST_COMMAND]})"
    except psutil.Error:
        return f"process {pid}"
