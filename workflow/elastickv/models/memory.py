"""Peak resident memory of this process; on Linux, since a chosen moment."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): resets VmHWM to the current resident size


def reset_peak() -> None:
    """Forgets the peak so far (loading a model takes more than running it), where the kernel allows that."""
    with contextlib.suppress(OSError):
        RESET.write_text(RESET_PEAK)


def peak_bytes() -> int:
    """The largest resident size since `reset_peak`, in bytes; pages of mapped model files count once touched."""
    try:
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
