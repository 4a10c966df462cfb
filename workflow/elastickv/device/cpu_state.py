"""The state of the CPU during measurements: other load, frequency, governor, quota."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from elastickv.device import cgroup, host
from elastickv.device.host import usable_cpus
from elastickv.schemas.measurement import Busy, Load, Quota, Snapshot, Throttling
from elastickv.schemas.parts import Others, Setting, Unavailable

CPUS = Path("/sys/devices/system/cpu")
SHORTEST_WINDOW = 0.2  # seconds; the kernel counts CPU time in hundredths
MOST_NAMED = 3
SMALLEST_NAMED = 0.05  # cores
NO_ENERGY = "only the energy of the whole CPU package can be read, which includes other work"
NO_FREQUENCIES = "the kernel shows no frequency control (a virtual machine?)"


class Times(NamedTuple):
    """CPU seconds so far on the cores this process may use: of all processes, of this one, taken by the hypervisor."""

    at: float
    busy: float
    own: float
    stolen: float
    processes: dict[tuple[int, float], tuple[str, float]]


def times() -> Times:
    """CPU times now, of the CPUs this process may run on (of all CPUs if they cannot be distinguished)."""
    import psutil

    per_cpu, usable = psutil.cpu_times(percpu=True), usable_cpus()
    counted = [per_cpu[number] for number in usable] if usable[-1] < len(per_cpu) else per_cpu
    idle = ("idle", "iowait", "guest", "guest_nice", "steal")  # guests' time is in user's
    busy = sum(sum(getattr(cpu, key) for key in cpu._fields if key not in idle) for cpu in counted)
    own = psutil.Process().cpu_times()
    stolen = sum(getattr(cpu, "steal", 0.0) for cpu in counted)
    return Times(time.monotonic(), busy, own.user + own.system, stolen, _processes())


def _processes() -> dict[tuple[int, float], tuple[str, float]]:
    """Name and CPU time of every other process that can be seen, by number and beginning."""
    import psutil

    found = {}
    for process in psutil.process_iter(["name", "cpu_times", "create_time"]):
        spent = process.info["cpu_times"]
        if spent and process.pid != os.getpid():
            key = process.pid, process.info["create_time"]
            found[key] = process.info["name"] or "?", spent.user + spent.system
    return found


def load_between(before: Times, after: Times) -> Load | Unavailable:
    """Load in cores (CPU seconds a second) between two readings; why it is not known where they are too close.

    others: processes but this one, on the cores that this one may use; stolen: what the hypervisor gave to other
    machines; busiest: the busiest other processes, on any core.
    """
    seconds = after.at - before.at
    if seconds < SHORTEST_WINDOW:
        return Unavailable(value=None, reason=f"{seconds:.2f} s is too short to measure the load")
    own = (after.own - before.own) / seconds
    grown = [
        Busy(pid=key[0], name=name, cores=(spent - before.processes.get(key, (name, 0.0))[1]) / seconds)
        for key, (name, spent) in after.processes.items()
    ]
    busiest = sorted(grown, key=lambda process: -process.cores)[:MOST_NAMED]
    return Load(
        seconds=seconds,
        others_cores=max(0.0, (after.busy - before.busy) / seconds - own),
        own_cores=own,
        stolen_cores=(after.stolen - before.stolen) / seconds,
        busiest=[process for process in busiest if process.cores >= SMALLEST_NAMED],
    )


class CpuState:
    """Readings of the CPU; a snapshot's load is that since the snapshot before it."""

    energy_reason = power_reason = NO_ENERGY

    def __init__(self) -> None:
        self._last = times()
        self._stopped = cgroup.throttling()

    def opened(self) -> None:
        """Nothing to do: this process is known by its number."""

    def throttled(self) -> str | None:
        """None: a CPU does not report throttling."""
        return None

    def rounds(self) -> list[dict[str, Any]]:
        """Empty: nothing is read after a round."""
        return []

    def energy(self) -> None:
        """None: see NO_ENERGY."""

    def load(self) -> Load | Unavailable:
        """The load since the previous call (see `load_between`)."""
        before, self._last = self._last, times()
        return load_between(before, self._last)

    def snapshot(self) -> Snapshot:
        """Frequency (MHz, None where the kernel hides it), load average, and `load`."""
        import psutil

        frequency = psutil.cpu_freq()
        mhz = frequency.current if frequency and frequency.current else None
        return Snapshot(mhz=mhz, load_1min=os.getloadavg()[0], load=self.load())

    def seen(self) -> Throttling:
        """How often the container's CPU quota stopped this process since this was made, if anything counts it."""
        before, after = self._stopped, cgroup.throttling()
        reasons = Unavailable(value=None, reason="a CPU does not report throttling")
        if before is None or after is None:
            return Throttling(reasons=reasons, quota=Unavailable(value=None, reason="no control group counts it"))
        stopped = Quota(periods=after.periods - before.periods, seconds=after.seconds - before.seconds)
        return Throttling(reasons=reasons, quota=stopped)

    def others(self) -> Others:
        return Others(value=None, reason="no GPU is used")

    def settings(self) -> dict[str, Setting]:
        return settings()


def settings(cpus: Path = CPUS) -> dict[str, Setting]:
    """Settings of the CPU and the cores available to this process: each {value} or {value: null, reason}."""
    usable, quota = usable_cpus(), cgroup.cpu_quota()
    return {
        "governor": _governor(cpus, usable),
        "turbo": _turbo(cpus),
        "smt": _flag(cpus / "smt/active", "the kernel does not report it"),
        "virtual_machine": _virtual(),
        "cpus": Setting(value=ranges(usable)),
        "usable_cores": Setting(value=len(usable)),
        "quota_cores": _unavailable("no control group limits the CPU time") if quota is None else Setting(value=quota),
    }


def _unavailable(reason: str) -> Setting:
    return Setting(value=None, reason=reason)


def ranges(numbers: list[int]) -> str:
    """Sorted numbers as Linux writes lists of CPUs: "0-3,8"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _governor(cpus: Path, usable: list[int]) -> Setting:
    found = {host.text(cpus / f"cpu{number}/cpufreq/scaling_governor") for number in usable} - {None}
    return Setting(value=", ".join(sorted(found))) if found else _unavailable(NO_FREQUENCIES)


def _flag(path: Path, reason: str, on: str = "1") -> Setting:
    text = host.text(path)
    return _unavailable(reason) if text not in ("0", "1") else Setting(value=text == on)


def _turbo(cpus: Path) -> Setting:
    intel = _flag(cpus / "intel_pstate/no_turbo", NO_FREQUENCIES, on="0")
    return intel if intel.value is not None else _flag(cpus / "cpufreq/boost", NO_FREQUENCIES)


def _virtual() -> Setting:
    flags = host.processor_flags()
    return Setting(value="hypervisor" in flags) if flags else _unavailable("the processor does not report it")
