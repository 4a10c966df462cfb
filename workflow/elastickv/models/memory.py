"""Memory of this process: whether weights fit, and its peak (on Linux, since a chosen moment)."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

from elastickv.models.refusal import Refusal

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): resets VmHWM to the current resident size

SHARE = 0.9  # of the free memory that weights alone may take


def check_room(needed: int, free: int, kind: str = "") -> None:
    """Raises Refusal if the weights alone exceed the free memory (bytes): the system would kill the process."""
    if needed > free * SHARE:
        reason = f"the weights take {needed / 1e9:.2f} GB{kind}, {free / 1e9:.2f} GB are free"
        raise Refusal("out_of_memory", reason)


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
