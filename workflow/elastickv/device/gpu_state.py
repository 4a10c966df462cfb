"""The state of a GPU while something is timed on it: clocks, throttling, power, energy, modes, and who else uses it."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from typing import Any

from elastickv.device import driver, throttle
from elastickv.device.cpu_state import CpuState
from elastickv.device.nvml import Nvml, told, untold

SM, MEMORY = 1, 2  # nvmlClockType
CLOCKS = {"SM": SM, "memory": MEMORY}
SLOW_READINGS_EVERY = 5  # samples: temperature and power take longer to read than clocks
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


def _scaled(reading: dict[str, Any], factor: float) -> dict[str, Any]:
    return reading if reading["value"] is None else told(reading["value"] * factor)


def _mapped(reading: dict[str, Any], of: Any) -> dict[str, Any]:
    return reading if reading["value"] is None else told(of(reading["value"]))


class GpuState:
    """Readings of one GPU from the moment this is made, which should be before this process uses the GPU itself.

    Whatever computes on it then is somebody else's, also in a container, where NVML's process numbers are the host's.
    """

    def __init__(self, uuid: str, nvml: Nvml | None = None):
        self._nvml = nvml or Nvml(uuid)
        self._host = CpuState()
        self._seen: list[dict[str, Any]] = []
        self._reasons: Counter[str] = Counter()
        self._no_reasons: dict[str, Any] | None = None  # why they cannot be read
        self._own: set[int] = {os.getpid()}
        self._in_use = False  # by this process
        self._foreign: dict[int, dict[str, Any]] = {}
        self._utilisation_from = self._latest_utilisation()
        self._note_processes()
        rated = driver.rated_mhz(uuid)
        self._rated = {name: rated.get(name) or self._read("MaxClockInfo", kind) for name, kind in CLOCKS.items()}

    def _read(self, function: str, *arguments: Any) -> Any:
        return self._nvml.read(function, *arguments)["value"]

    def opened(self) -> None:
        """To be called when this process has begun to use the GPU.

        In a container NVML may know it by the host's number: while ours is not listed, the first new number is ours.
        """
        self._in_use = True
        self._note_processes()

    def _listed(self) -> dict[int, Any]:
        """Compute processes on the GPU now, by number."""
        found = self._nvml.read_own("ComputeRunningProcesses")["value"]
        return {int(process.pid): process for process in found or ()}

    def _note_processes(self) -> None:
        listed = self._listed()
        new = [pid for pid in listed if pid not in self._foreign]
        if self._in_use and len(new) == 1 and self._own == {os.getpid()} and os.getpid() not in listed:
            self._own.add(new[0])
        for pid, process in listed.items():
            if pid not in self._own:
                entry = self._foreign.setdefault(pid, {"pid": pid, "name": self._nvml.process_name(pid)})
                entry["memory_bytes"] = process.usedGpuMemory

    def _latest_utilisation(self) -> int:
        samples = self._nvml.utilisation(0)["value"] or ()
        return max((int(sample.timeStamp) for sample in samples), default=0)

    def others(self) -> dict[str, Any]:
        """Other processes that computed, or could have, on the GPU since this was made: `value` is a list.

        Each {pid, name, memory_bytes, sm_percent}: the largest share of one of the driver's sampling periods (up to a
        second) in which its kernels ran; null where the driver does not tell.
        """
        answer = self._nvml.read_own("ComputeRunningProcesses")
        if answer["value"] is None:
            return answer
        self._note_processes()
        samples = self._nvml.utilisation(self._utilisation_from)["value"]
        for entry in self._foreign.values():
            of_it = [sample.smUtil for sample in samples or () if sample.pid == entry["pid"]]
            entry["sm_percent"] = None if samples is None else max(of_it, default=0)
        return told([dict(entry) for entry in self._foreign.values()])

    def throttled(self) -> str | None:
        """Asked right after a sample: why the GPU ran slower than asked for, or None."""
        told_bits = self._nvml.read("CurrentClocksThrottleReasons")
        bits = told_bits["value"] or 0
        clocks = {"SM": self._read("ClockInfo", SM), "memory": self._read("ClockInfo", MEMORY)}
        reading = {"sm_mhz": clocks["SM"], "memory_mhz": clocks["memory"]}
        if len(self._seen) % SLOW_READINGS_EVERY == 0:
            reading |= {"temperature_c": self._read("Temperature", 0), "power_w": self._power()["value"]}
        self._seen.append(reading)
        self._reasons.update(throttle.names(bits))
        if told_bits["value"] is None:
            self._no_reasons = told_bits
        return throttle.slowed(bits, {name: (clocks[name], self._rated[name]) for name in clocks})

    def seen(self) -> dict[str, Any]:
        """What the readings after the samples came to: `readings` many, reasons by how often, ranges by quantity."""
        if not self._seen:
            return {}
        return {
            "readings": len(self._seen),
            "reasons": self._no_reasons or dict(sorted(self._reasons.items())),
            "ranges": {key: _range([reading.get(key) for reading in self._seen]) for key in self._seen[0]},
        }

    def _power(self) -> dict[str, Any]:
        return _scaled(self._nvml.read("PowerUsage"), 1e-3)

    def _energy(self) -> dict[str, Any]:
        return _scaled(self._nvml.read_alone("TotalEnergyConsumption"), 1e-3)

    def energy(self) -> float | None:
        """Joules since the driver was loaded; the counter moves every 20 to 100 ms. None where it cannot be read."""
        return self._energy()["value"]

    @property
    def energy_reason(self) -> str | None:
        """Why the energy cannot be read, or None."""
        return self._energy().get("reason")

    @property
    def power_reason(self) -> str | None:
        """Why the power cannot be read, or None."""
        return self._power().get("reason")

    def snapshot(self) -> dict[str, Any]:
        """Clocks (MHz), temperature (C), power (W), energy (J since driver load) now; the host's load (`CpuState`)."""
        return {
            "sm_mhz": self._read("ClockInfo", SM),
            "memory_mhz": self._read("ClockInfo", MEMORY),
            "temperature_c": self._read("Temperature", 0),
            "power_w": self._power()["value"],
            "energy_j": self.energy(),
            **self._host.load(),
        }

    def settings(self) -> dict[str, dict[str, Any]]:
        """How the board is set: each a reading {value} or {value: null, reason}."""
        read = self._nvml.read
        return {
            "ecc": _mapped(read("EccMode"), lambda modes: bool(modes[0])),
            "persistence": _mapped(read("PersistenceMode"), bool),
            "mig": _mapped(read("MigMode"), lambda modes: bool(modes[0])),
            "compute_mode": _mapped(read("ComputeMode"), lambda mode: COMPUTE_MODES.get(mode, str(mode))),
            "performance_state": _mapped(read("PerformanceState"), lambda state: f"P{state}"),
            "power_limit_w": _scaled(read("EnforcedPowerLimit"), 1e-3),
            "sm_rated_mhz": told(self._rated["SM"]) if self._rated["SM"] else read("MaxClockInfo", SM),
            "sm_highest_mhz": read("MaxClockInfo", SM),
            "memory_highest_mhz": read("MaxClockInfo", MEMORY),
            "sm_application_mhz": read("ApplicationsClock", SM),
        }


def _range(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if not known:
        return untold("the device does not report it")
    return {"low": min(known), "median": statistics.median(known), "high": max(known)}
