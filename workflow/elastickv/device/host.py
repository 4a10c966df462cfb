"""The host's processor, caches, available cores and memory limits, as reported by Linux."""

from __future__ import annotations

import math
import os
import platform
import resource
from pathlib import Path
from typing import NamedTuple

from elastickv.device import cgroup

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
FALLBACK_CACHE_BYTES = 32 << 20
INSTRUCTION_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "asimd", "asimdhp", "sve", "sve2", "bf16", "i8mm"),
)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Host(NamedTuple):
    """Properties that identify a processor and determine its speed; equal on all machines of the same kind."""

    name: str
    architecture: str
    logical_cores: int | None
    usable_cores: int
    total_memory_bytes: int
    last_level_cache_bytes: int
    last_level_cache_source: str
    instruction_sets: list[str]


def text(path: Path) -> str | None:
    """What a file of the kernel holds, or None where there is none."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def cpuinfo(*keys: str) -> str | None:
    """Value of the first of `keys` in /proc/cpuinfo."""
    for line in (text(CPUINFO) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return None


def cpu_model() -> str:
    """Model name of the CPU."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def usable_cpus() -> list[int]:
    """Numbers of the CPUs that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def is_x86() -> bool:
    """Whether the processor is an x86 in 64-bit mode."""
    return platform.machine() in ("x86_64", "AMD64")


def processor_flags() -> frozenset[str]:
    """All extensions that the system lists for the processor, by the system's names."""
    return frozenset((cpuinfo("flags", "Features") or "").split())


def instruction_sets() -> list[str]:
    """The vector extensions among INSTRUCTION_SETS that the processor offers."""
    flags = processor_flags()
    return [name for name in INSTRUCTION_SETS if name in flags]


def last_level_cache_bytes() -> tuple[int, str]:
    """Size of the last-level cache and where it was read: sysfs index3, else the highest index, else a safe guess."""
    levels = sorted(CACHES.glob("index*/size"), reverse=True)
    for path in [CACHES / "index3" / "size", *levels]:
        if size := text(path):
            return int(size.rstrip("KMG")) * _UNITS.get(size[-1], 1), str(path)
    return FALLBACK_CACHE_BYTES, "assumed: not reported by sysfs"


def usable_cores() -> int:
    """Cores this process may run on: its affinity, and its control groups' quota rounded up."""
    affinity, quota = len(usable_cpus()), cgroup.cpu_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def available_memory() -> int:
    """Bytes that this process can still fill: what the machine has free, within its cgroup's and its own limits."""
    import psutil

    limits = [psutil.virtual_memory().available, cgroup.memory_room()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        limits.append(max(0, own - psutil.Process().memory_info().vms))
    return min(limit for limit in limits if limit is not None)


def facts() -> Host:
    """The processor of this machine."""
    import psutil

    cache, source = last_level_cache_bytes()
    return Host(
        name=cpu_model(),
        architecture=platform.machine(),
        logical_cores=os.cpu_count(),
        usable_cores=usable_cores(),
        total_memory_bytes=psutil.virtual_memory().total,
        last_level_cache_bytes=cache,
        last_level_cache_source=source,
        instruction_sets=instruction_sets(),
    )
