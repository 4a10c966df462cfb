"""CPU and memory limits of the container or service that this process runs in, from Linux control groups (v2, v1)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
OF_PROCESS = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60  # bytes; version 1 says "no limit" by a number near 2^63
V1_FOLDERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


class Throttling(NamedTuple):
    """How often and how long (seconds, over all cores) the quota stopped this process's group, since it was made."""

    periods: int
    seconds: float


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _group(controller: str, of_process: Path) -> str:
    """This process's group: of version 2 for "", else of the v1 hierarchy of a controller."""
    for line in (_text(of_process) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == controller or controller in filter(None, controllers.split(",")):
            return path.lstrip("/")
    return ""


def _upwards(base: Path, group: str) -> list[Path]:
    """The group's folder and those above it, innermost first; in a container the group may not be mounted."""
    folder = base / group
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(base))]


def _folders(root: Path, of_process: Path) -> tuple[list[Path], list[Path]]:
    """Folders that may contain CPU limits: of version 2 and of version 1."""
    first = [folder for name in V1_FOLDERS for folder in _upwards(root / name, _group("cpu", of_process))]
    return _upwards(root, _group("", of_process)), first


def cpu_quota(root: Path = ROOT, of_process: Path = OF_PROCESS) -> float | None:
    """Cores' worth of CPU time that this process's groups allow (the tightest), or None without a limit."""
    second, first = _folders(root, of_process)
    limits = []
    for text in filter(None, (_text(folder / "cpu.max") for folder in second)):
        share, period = text.split()
        if share != "max":
            limits.append(int(share) / int(period))
    for folder in first:
        share, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if share and period and int(share) > 0:
            limits.append(int(share) / int(period))
    return min(limits, default=None)


def memory_room(root: Path = ROOT, of_process: Path = OF_PROCESS) -> int | None:
    """Bytes left under the tightest memory limit of this process's groups, or None without a limit."""
    second = [(folder / "memory.max", folder / "memory.current") for folder in _upwards(root, _group("", of_process))]
    first = [(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes")
             for folder in _upwards(root / "memory", _group("memory", of_process))]  # fmt: skip
    texts = [(_text(limit), _text(used)) for limit, used in (*second, *first)]
    limited = [(int(limit), int(used or 0)) for limit, used in texts if limit and limit != "max"]
    return min((max(0, limit - used) for limit, used in limited if limit < UNLIMITED), default=None)


def throttling(root: Path = ROOT, of_process: Path = OF_PROCESS) -> Throttling | None:
    """What the quota has cost so far (the group that was stopped most), or None where nothing counts it."""
    second, first = _folders(root, of_process)
    found = [Throttling(int(stat["nr_throttled"]), int(stat["throttled_usec"]) / 1e6)
             for stat in map(_stat, second) if "throttled_usec" in stat]  # fmt: skip
    found += [Throttling(int(stat["nr_throttled"]), int(stat["throttled_time"]) / 1e9)
              for stat in map(_stat, first) if "throttled_time" in stat]  # fmt: skip
    return max(found, default=None)


def _stat(folder: Path) -> dict[str, str]:
    pairs = (line.split() for line in (_text(folder / "cpu.stat") or "").splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
