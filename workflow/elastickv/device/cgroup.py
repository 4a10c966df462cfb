"""CPU and memory limits of the container or service that this process runs in, from Linux control groups (v2, v1)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
OF_PROCESS = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60  # bytes; version 1 says "no limit" by a number near 2^63


class Throttling(NamedTuple):
    """How often and how long (seconds, over all cores) the quota stopped this process's group, since it was made."""

    periods: int
    seconds: float


def _text(path: Path) -> str:
    """What a file of a group holds; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _folders(controller: str, root: Path, of_process: Path) -> list[Path]:
    """This process's group and those above it, innermost first: of version 2 (no controller), or of a v1 controller.

    In a container the group itself may not be mounted.
    """
    lines = [line.split(":", 2) for line in _text(of_process).splitlines()]
    group = next((path for _, names, path in lines if controller in names.split(",")), "").lstrip("/")
    folder = root / controller / group
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root / controller))]


def cpu_quota(root: Path = ROOT, of_process: Path = OF_PROCESS) -> float | None:
    """Cores' worth of CPU time that this process's groups allow (the tightest), or None without a limit."""
    found = [_text(folder / "cpu.max").split() for folder in _folders("", root, of_process)]
    for folder in _folders("cpu", root, of_process):
        found.append([_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    limits = [pair for pair in found if all(pair) and pair and pair[0] not in ("max", "-1")]
    return min((int(share) / int(period) for share, period in limits), default=None)


def memory_room(root: Path = ROOT, of_process: Path = OF_PROCESS) -> int | None:
    """Bytes left under the tightest memory limit of this process's groups, or None without a limit."""
    found = [(folder / "memory.max", folder / "memory.current") for folder in _folders("", root, of_process)]
    found += [(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes")
              for folder in _folders("memory", root, of_process)]  # fmt: skip
    limits = [(int(limit), int(_text(used) or 0)) for path, used in found if (limit := _text(path)).isdecimal()]
    return min((max(0, limit - used) for limit, used in limits if limit < UNLIMITED), default=None)


def throttling(root: Path = ROOT, of_process: Path = OF_PROCESS) -> Throttling | None:
    """What the quota has cost so far (the group that was stopped most), or None where nothing counts it."""
    folders = [*_folders("", root, of_process), *_folders("cpu", root, of_process)]
    found = []
    for folder in folders:
        stat = dict(line.split() for line in _text(folder / "cpu.stat").splitlines())
        if "nr_throttled" in stat:
            seconds = int(stat.get("throttled_usec", 0)) / 1e6 + int(stat.get("throttled_time", 0)) / 1e9
            found.append(Throttling(int(stat["nr_throttled"]), seconds))
    return max(found, default=None)
