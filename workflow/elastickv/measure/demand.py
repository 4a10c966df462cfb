"""The resources that a measurement needs, derived from the case alone, for schedulers and time limits.

Pure, and the same on every machine: a cluster's head node without a GPU requests the resources of the compute node.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from typing import NamedTuple

from elastickv import kinds
from elastickv.cache import bytes_moved
from elastickv.schemas.case import AnyCase
from elastickv.workloads import rotation

MIB = 1 << 20

# Host memory, MiB: interpreter, libraries and (CUDA) the context; and what the float64 check holds per byte of a chunk.
CUDA_BASE_MIB, CPU_BASE_MIB = 4096, 2048
CHECK_CHUNK_BYTES, CHECK_COPIES = 64 * MIB, 16
# CPU: caches rotate until they are several times this one's size; a larger cache only makes fewer of them fit.
ASSUMED_LAST_LEVEL_BYTES = 64 * MIB
ROUND_MIB = 512

# Seconds of each process: start, warm-up and inference cycle; sampling, per second of its share of `max_seconds`;
# filling and checking a GB of full cache in NumPy.
GRACE_SECONDS, SAMPLING_FACTOR, SECONDS_PER_GB = 420, 10, 60
# Time of exact sample counts, independent of `max_seconds`: GB/s of a slow machine; how many full and elastic
# caches a sample of both arms and of their controls reads, its share of the probes included.
SLOW_GBPS, FULL_READS, ELASTIC_READS = 1, 3, 3
# Blocks of steady work of a process; seconds of each that are not counted: those dropped and the last launches.
SUSTAINED_BLOCKS, SUSTAINED_MORE_SECONDS = 4, 5
CEILINGS_SECONDS = 600
CEILINGS_BUFFER_MIB = 2048  # on a CPU; of it a quarter of what is free, at most
# Peers: seconds to compile and try one; comparisons of one, and how long one may take against what
# its sampling may; memory of their libraries and of the caches copied for them.
PEER_SECONDS, PEER_COMPARISONS, PEER_FACTOR, PEER_LIBRARIES_MIB = 300, 4, 3, 4096
SPARE_SECONDS = 180  # for Snakemake's own start on the node, and for the record


class Demand(NamedTuple):
    """gpu: GPUs; mem_mb: host memory, MB as SLURM counts it (MiB); runtime: minutes; slurm_extra: options of sbatch."""

    gpu: int
    mem_mb: int
    runtime: int
    slurm_extra: str


NONE = Demand(0, 0, 0, "")


def of_case(case: AnyCase) -> Demand:
    """What measuring a canonical case needs."""
    base, caches = (CPU_BASE_MIB, _cpu_caches(case)) if case.backend == "cpu" else (CUDA_BASE_MIB, 0)
    return _demand(case.backend, base + (caches + _check_bytes(case)) / MIB, case_seconds(case))


def gpus(backend: str) -> int:
    """The number of GPUs that a command on this backend requests; `auto` requests one."""
    return 0 if backend == "cpu" else 1


def sbatch_options(backend: str) -> str:
    """Further options of sbatch: a timed CPU needs its node to itself, a GPU job does not, since its GPU is its own."""
    return "" if gpus(backend) else "--exclusive"


def peers_seconds(case: AnyCase, peers: int, max_seconds: float) -> float:
    """Longest time of a process that compares a case with `peers` kernels: each four times, some compiled."""
    return worker_seconds(case) + peers * (PEER_SECONDS + PEER_COMPARISONS * PEER_FACTOR * max_seconds)


def of_peers(cases: Sequence[AnyCase], peers: int, max_seconds: float) -> Demand:
    """Resources for comparing these cases with `peers` kernels: time of all in turn, memory of the largest."""
    if not cases:
        return NONE
    demands = [of_case(case) for case in cases]
    minutes = sum(peers_seconds(case, peers, max_seconds) for case in cases) / 60
    return Demand(
        gpu=max(one.gpu for one in demands),
        mem_mb=max(one.mem_mb for one in demands) + PEER_LIBRARIES_MIB,
        runtime=math.ceil(minutes + SPARE_SECONDS / 60),
        slurm_extra=demands[0].slurm_extra,
    )


def of_ceilings(backend: str) -> Demand:
    """What measuring `ceilings.json` needs."""
    mib = CPU_BASE_MIB + 2 * CEILINGS_BUFFER_MIB if backend == "cpu" else CUDA_BASE_MIB
    return _demand(backend, mib, CEILINGS_SECONDS)


def worker_seconds(case: AnyCase, fixed: Collection[str] = (), processes: int = 1) -> float:
    """Longest time that a process measuring a case may take: beyond it something hangs.

    fixed: names among reps, warmup, inner_loops of which as many are taken as given. processes: as many share
    `max_seconds`.
    """
    moved, settings = bytes_moved.traffic(case), case.measure
    size = moved["full"].total
    seconds = GRACE_SECONDS + SAMPLING_FACTOR * settings.max_seconds / processes + SECONDS_PER_GB * size / 1e9
    seconds += SUSTAINED_BLOCKS * (settings.sustained_seconds + SUSTAINED_MORE_SECONDS)
    if fixed:
        sample = settings.inner_loops * (FULL_READS * size + ELASTIC_READS * moved["elastic"].total)
        seconds += (settings.reps + settings.warmup) * sample / (SLOW_GBPS * 1e9)
    return seconds


def case_seconds(case: AnyCase) -> float:
    """Longest time that measuring a case may take: its processes one after another."""
    backend = "cpu" if case.backend == "cpu" else "cuda"  # which `auto` may be
    processes = case.measure.processes_on(backend)
    return processes * worker_seconds(case, processes=processes)


def _demand(backend: str, mib: float, seconds: float) -> Demand:
    return Demand(
        gpu=gpus(backend),
        mem_mb=math.ceil(mib / ROUND_MIB) * ROUND_MIB,
        runtime=math.ceil((seconds + SPARE_SECONDS) / 60),
        slurm_extra=sbatch_options(backend),
    )


def _cpu_caches(case: AnyCase) -> int:
    plan = rotation.rotation(case, ASSUMED_LAST_LEVEL_BYTES, budget=sys.maxsize)
    return plan.layers * plan.footprint


def _check_bytes(case: AnyCase) -> int:
    """The check goes by chunks of whole heads, of a declared workload by sets; float32 and float64 copies of each."""
    if isinstance(case.kind, kinds.Declared):
        return CHECK_COPIES * sum(buffer.nbytes for buffer in case.kind.buffers(case).values())
    return CHECK_COPIES * max(CHECK_CHUNK_BYTES, case.seq * case.dim * 4)
