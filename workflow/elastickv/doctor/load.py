"""Other activity on the CPU, on the GPU and in this checkout. Only notes: it may disturb or delay a measurement."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from elastickv import device
from elastickv.device import cpu_state
from elastickv.device.nvml import Nvml
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import Finding, note, ok
from elastickv.doctor.needs import Needs
from elastickv.pipeline import runlock
from elastickv.system import locks

SAMPLE_SECONDS = 0.5
BUSY_CORES, BUSY_GPU = 0.3, 5  # cores used by other processes; percent of time
MOST_NAMED = 3


@dataclass(frozen=True)
class Process:
    """Another process; `share` in cores (CPU) or bytes (GPU)."""

    pid: int
    name: str
    share: float


@dataclass(frozen=True)
class Facts:
    """Activity of other processes.

    cores_busy: cores (of `cores`) used by others, and the busiest processes. gpu_percent: None if unknown. holders: the
    process that holds each measurement lock ("cpu" or a GPU's UUID). runner: the process of a run in this checkout.
    """

    cores: int
    cores_busy: float
    cpu_processes: tuple[Process, ...]
    gpu_percent: int | None
    gpu_processes: tuple[Process, ...]
    holders: tuple[tuple[str, int], ...]
    runner: int | None


def gather(needs: Needs, gpu: gpus.Facts) -> Facts:
    """Observes the machine for half a second and reads the holders of the locks."""
    busy, processes = _cpu()
    percent, on_gpu = _gpu(gpu.gpus[0].uuid) if gpu.gpus else (None, ())
    names = ["cpu", *(one.uuid for one in gpu.gpus)]
    held = ((name, locks.holder(device.lock_folder() / f"{name}.lock")) for name in names)
    return Facts(
        cores=len(cpu_state.usable_cpus()),
        cores_busy=busy,
        cpu_processes=processes,
        gpu_percent=percent,
        gpu_processes=on_gpu,
        holders=tuple((name, pid) for name, pid in held if pid is not None),
        runner=locks.holder(runlock.LOCK),
    )


def _cpu() -> tuple[float, tuple[Process, ...]]:
    """Cores used by other processes, and the busiest of those processes."""
    before = cpu_state.times()
    time.sleep(SAMPLE_SECONDS)
    load = cpu_state.load_between(before, cpu_state.times())
    return load.others_cores, tuple(Process(one.pid, one.name, one.cores) for one in load.busiest)


def _gpu(uuid: str) -> tuple[int | None, tuple[Process, ...]]:
    """Percent of the time in which kernels ran on a GPU, and the processes that hold its memory."""
    nvml = Nvml(uuid)
    busy, found = nvml.read_own("UtilizationRates").value, nvml.read_own("ComputeRunningProcesses").value
    return busy and int(busy.gpu), tuple(
        Process(one.pid, nvml.process_name(one.pid) or "?", float(one.usedGpuMemory or 0))
        for one in found or ()
        if one.pid != os.getpid()
    )


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    found = [cpu(facts, needs), *gpu(facts, needs)]
    return [*found, *(measuring(*one) for one in facts.holders), run(facts)]


def _wait_for(pid: int) -> str:
    """A command that waits for the process to end. Killing it is left to its owner."""
    return f"tail --pid={pid} -f /dev/null"


def _after(pid: int, needs: Needs) -> str:
    return f"{_wait_for(pid)}; {needs.make(target='remeasure')}"


def _named(processes: tuple[Process, ...]) -> str:
    return ", ".join(f"{one.name} ({one.pid})" for one in processes[:MOST_NAMED])


def cpu(facts: Facts, needs: Needs) -> Finding:
    """Whether the cores are idle; otherwise timings may be noisy."""
    text = f"{facts.cores_busy:.1f} of {facts.cores} cores busy"
    if facts.cores_busy < BUSY_CORES:
        return ok("CPU load", text)
    if not facts.cpu_processes:
        return note("CPU load", f"{text}: timings may be noisy", "top")
    found = f"{text} with {_named(facts.cpu_processes)}: timings may be noisy"
    return note("CPU load", found, _after(facts.cpu_processes[0].pid, needs))


def gpu(facts: Facts, needs: Needs) -> list[Finding]:
    """Whether other processes use the GPU."""
    if needs.gpu == "none" or (facts.gpu_percent is None and not facts.gpu_processes):
        return []
    text = f"{facts.gpu_percent or 0}% busy"
    if not facts.gpu_processes and (facts.gpu_percent or 0) < BUSY_GPU:
        return [ok("GPU load", text)]
    if not facts.gpu_processes:
        return [note("GPU load", f"{text}: timings may be noisy", "nvidia-smi")]
    held = sum(one.share for one in facts.gpu_processes) / 1e9
    found = f"{text}; {_named(facts.gpu_processes)} hold {held:.1f} GB of its memory"
    return [note("GPU load", found, _after(facts.gpu_processes[0].pid, needs))]


def measuring(name: str, pid: int) -> Finding:
    """Another measurement holds the lock of a device: ours would wait for it."""
    return note(f"measuring on {name}", f"process {pid} is measuring; new measurements wait for it", _wait_for(pid))


def run(facts: Facts) -> Finding:
    """Whether a run is active in this checkout, which would refuse a second one."""
    check = "run in this checkout"
    if facts.runner is None:
        return ok(check, "none active")
    found = f"process {facts.runner} is running: a second run would end with an error"
    return note(check, found, _wait_for(facts.runner))
