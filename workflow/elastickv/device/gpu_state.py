"""The state of a GPU during measurements: clocks, throttling, power, energy, modes and other processes."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from elastickv.device import driver, throttle
from elastickv.device.cpu_state import CpuState
from elastickv.device.nvml import Nvml, Reading
from elastickv.schemas.measurement import Range, Snapshot, Throttling
from elastickv.schemas.parts import Others, Process, Setting, Unavailable

SM, MEMORY = 1, 2  # nvmlClockType
CLOCKS = {"SM": SM, "memory": MEMORY}
SLOW_READINGS_EVERY = 5  # samples: temperature and power take longer to read than clocks
RANGES = ("sm_mhz", "memory_mhz", "temperature_c", "power_w")
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


class AfterSample(NamedTuple):
    """Readings after a sample; slow readings are taken only after some samples. None: not read or not reported."""

    sm_mhz: int | None
    memory_mhz: int | None
    power_capped: bool | None
    temperature_c: float | None = None
    power_w: float | None = None


@dataclass(frozen=True)
class Foreign:
    """Another process on the GPU, and the memory that it was seen with last."""

    name: str | None
    memory_bytes: int | None


class GpuState:
    """Readings of one GPU, to be created before this process uses the GPU.

    All processes on the GPU at that time are others, also in a container, where NVML reports the host's process ids.
    """

    def __init__(self, uuid: str, nvml: Nvml | None = None):
        self._nvml = nvml or Nvml(uuid)
        self._host = CpuState()
        self._seen: list[AfterSample] = []
        self._reasons: Counter[str] = Counter()
        self._no_reasons: str | None = None  # why they cannot be read
        self._own: set[int] = {os.getpid()}
        self._in_use = False  # by this process
        self._foreign: dict[int, Foreign] = {}
        self._utilisation_from = self._latest_utilisation()
        self._note_processes()
        rated = driver.rated_mhz(uuid)
        self._rated = {name: rated.get(name) or self._read("MaxClockInfo", kind) for name, kind in CLOCKS.items()}

    def _read(self, function: str, *arguments: Any) -> Any:
        return self._nvml.read(function, *arguments).value

    def opened(self) -> None:
        """To be called when this process has begun to use the GPU.

        In a container NVML may know it by the host's number: while ours is not listed, the first new number is ours.
        """
        self._in_use = True
        self._note_processes()

    def _listed(self) -> dict[int, Any]:
        """Compute processes on the GPU now, by number."""
        found = self._nvml.read_own("ComputeRunningProcesses").value
        return {int(process.pid): process for process in found or ()}

    def _note_processes(self) -> None:
        listed = self._listed()
        new = [pid for pid in listed if pid not in self._foreign]
        if self._in_use and len(new) == 1 and self._own == {os.getpid()} and os.getpid() not in listed:
            self._own.add(new[0])
        for pid, process in listed.items():
            if pid not in self._own:
                known = self._foreign.get(pid) or Foreign(self._nvml.process_name(pid), None)
                self._foreign[pid] = replace(known, memory_bytes=process.usedGpuMemory)

    def _latest_utilisation(self) -> int:
        samples = self._nvml.utilisation(0).value or ()
        return max((int(sample.timeStamp) for sample in samples), default=0)

    def others(self) -> Others:
        """Other processes that computed, or could have, on the GPU since this was made.

        `sm_percent`: the largest share of one of the driver's sampling periods (up to a second) in which its kernels
        ran.
        """
        answer = self._nvml.read_own("ComputeRunningProcesses")
        if answer.value is None:
            return Others(**answer.to_json())
        self._note_processes()
        samples = self._nvml.utilisation(self._utilisation_from).value
        found = []
        for pid, one in self._foreign.items():
            of_it = [sample.smUtil for sample in samples or () if sample.pid == pid]
            percent = None if samples is None else max(of_it, default=0)
            found.append(Process(pid=pid, name=one.name, memory_bytes=one.memory_bytes, sm_percent=percent))
        return Others(value=found)

    def throttled(self) -> str | None:
        reasons = self._nvml.read("CurrentClocksThrottleReasons")
        bits = reasons.value or 0
        clocks = {"SM": self._read("ClockInfo", SM), "memory": self._read("ClockInfo", MEMORY)}
        slow = len(self._seen) % SLOW_READINGS_EVERY == 0
        rest = (self._read("Temperature", 0), self._power().value) if slow else ()
        capped = None if reasons.value is None else bool(bits & throttle.POWER_CAP)
        self._seen.append(AfterSample(clocks["SM"], clocks["memory"], capped, *rest))
        self._reasons.update(throttle.names(bits))
        self._no_reasons = reasons.reason
        return throttle.slowed(bits)

    def rounds(self) -> list[dict[str, Any]]:
        """What was read after each round, in order."""
        return [one._asdict() for one in self._seen]

    def seen(self) -> Throttling:
        """What the readings after the samples came to: `readings` many, reasons by how often, ranges by quantity."""
        if not self._seen:
            return Throttling()
        unavailable = self._no_reasons and Unavailable(value=None, reason=self._no_reasons)
        return Throttling(
            readings=len(self._seen),
            reasons=unavailable or dict(sorted(self._reasons.items())),
            ranges={name: _range(getattr(one, name) for one in self._seen) for name in RANGES},
        )

    def _power(self) -> Reading:
        return self._nvml.read("PowerUsage").map(_thousandth)

    def _energy(self) -> Reading:
        return self._nvml.read_alone("TotalEnergyConsumption").map(_thousandth)

    def energy(self) -> float | None:
        """Joules since the driver was loaded; the counter moves every 20 to 100 ms. None where it cannot be read."""
        return self._energy().value

    @property
    def energy_reason(self) -> str | None:
        return self._energy().reason

    @property
    def power_reason(self) -> str | None:
        return self._power().reason

    def snapshot(self) -> Snapshot:
        """Clocks (MHz), temperature (C), power (W), energy (J since driver load) now; the host's load (`CpuState`)."""
        return Snapshot(
            sm_mhz=self._read("ClockInfo", SM),
            memory_mhz=self._read("ClockInfo", MEMORY),
            temperature_c=self._read("Temperature", 0),
            power_w=self._power().value,
            energy_j=self.energy(),
            load_1min=os.getloadavg()[0],
            load=self._host.load(),
        )

    def settings(self) -> dict[str, Setting]:
        read = self._nvml.read
        readings = {
            "ecc": read("EccMode").map(lambda modes: bool(modes[0])),
            "persistence": read("PersistenceMode").map(bool),
            "mig": read("MigMode").map(lambda modes: bool(modes[0])),
            "compute_mode": read("ComputeMode").map(lambda mode: COMPUTE_MODES.get(mode, str(mode))),
            "performance_state": read("PerformanceState").map(lambda state: f"P{state}"),
            "power_limit_w": read("EnforcedPowerLimit").map(_thousandth),
            "sm_rated_mhz": Reading(self._rated["SM"]) if self._rated["SM"] else read("MaxClockInfo", SM),
            "sm_highest_mhz": read("MaxClockInfo", SM),
            "memory_highest_mhz": read("MaxClockInfo", MEMORY),
            "sm_application_mhz": read("ApplicationsClock", SM),
        }
        return {name: Setting(**reading.to_json()) for name, reading in readings.items()}


def _thousandth(value: float) -> float:
    return value * 1e-3


def _range(values: Iterable[float | None]) -> Range | Unavailable:
    known = [value for value in values if value is not None]
    if not known:
        return Unavailable(value=None, reason="the device does not report it")
    return Range(low=min(known), median=statistics.median(known), high=max(known))
