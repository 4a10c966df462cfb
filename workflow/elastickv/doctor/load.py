"""Other activity on the CPU, on the GPU and in this checkout. Only notes: it may disturb or delay a measurement."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from itertools import islice

from elastickv.device import cpu_state, lease
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
class Facts:
    """Activity of other processes.

    cores_busy: cores (of `cores`) used by others; on_cpu: the busiest processes, by id. gpu_percent: None if unknown;
    on_gpu: the processes that hold memory of the first GPU. holders: the process that holds each measurement lock
    ("cpu" or a GPU's UUID). runner: the process of a run in this checkout.
    """

    cores: int
    cores_busy: float
    on_cpu: dict[int, str]
    gpu_percent: int | None
    on_gpu: dict[int, str]
    holders: dict[str, int]
    runner: int | None


def gather(needs: Needs, gpu: gpus.Facts) -> Facts:
    """Observes the machine for half a second and reads the holders of the locks."""
    before = cpu_state.times()
    time.sleep(SAMPLE_SECONDS)
    busy = cpu_state.load_between(before, cpu_state.times())
    percent, on_gpu = _gpu(gpu.gpus[0].uuid) if gpu.gpus else (None, {})
    names = ["cpu", *(one.uuid for one in gpu.gpus)]
    held = {name: locks.holder(lease.lock_file(name)) for name in names}
    return Facts(
        cores=len(cpu_state.usable_cpus()),
        cores_busy=busy.others_cores,
        on_cpu={one.pid: one.name for one in busy.busiest},
        gpu_percent=percent,
        on_gpu=on_gpu,
        holders={name: pid for name, pid in held.items() if pid is not None},
        runner=locks.holder(runlock.LOCK),
    )


def _gpu(uuid: str) -> tuple[int | None, dict[int, str]]:
    """Percent of the time in which kernels ran on a GPU, and the processes that hold its memory."""
    nvml = Nvml(uuid)
    busy, found = nvml.read_own("UtilizationRates").value, nvml.read_own("ComputeRunningProcesses").value
    others = (one.pid for one in found or () if one.pid != os.getpid())
    return busy and int(busy.gpu), {pid: nvml.process_name(pid) or "?" for pid in others}


def checks(facts: Facts, needs: Needs) -> list[Finding]:
    found = [cpu(facts, needs), *gpu(facts, needs)]
    return [*found, *(measuring(*one) for one in facts.holders.items()), run(facts)]


def _wait_for(pid: int) -> str:
    """A command that waits for the process to end. Killing it is left to its owner."""
    return f"tail --pid={pid} -f /dev/null"


def _busy(check: str, text: str, processes: dict[int, str], needs: Needs) -> Finding:
    """The note on a busy device; the fix waits for the first of the processes."""
    if not processes:
        return note(check, f"{text}: timings may be noisy", f"wait, then {needs.make(target='remeasure')}")
    named = ", ".join(f"{name} ({pid})" for pid, name in islice(processes.items(), MOST_NAMED))
    again = f"{_wait_for(next(iter(processes)))}; {needs.make(target='remeasure')}"
    return note(check, f"{text} with {named}: timings may be noisy", again)


def cpu(facts: Facts, needs: Needs) -> Finding:
    """Whether the cores are idle; otherwise timings may be noisy."""
    text = f"{facts.cores_busy:.1f} of {facts.cores} cores busy"
    return ok("CPU load", text) if facts.cores_busy < BUSY_CORES else _busy("CPU load", text, facts.on_cpu, needs)


def gpu(facts: Facts, needs: Needs) -> list[Finding]:
    """Whether other processes use the GPU."""
    if needs.gpu == "none" or (facts.gpu_percent is None and not facts.on_gpu):
        return []
    text = f"{facts.gpu_percent or 0}% busy"
    if not facts.on_gpu and (facts.gpu_percent or 0) < BUSY_GPU:
        return [ok("GPU load", text)]
    return [_busy("GPU load", text, facts.on_gpu, needs)]


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
