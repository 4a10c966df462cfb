"""What the state of the machine does to a record: its readings go in, and whoever else was at work is named."""

from __future__ import annotations

from collections.abc import Sequence

from elastickv.device import State, cpu_state
from elastickv.device.cpu_state import CpuState
from elastickv.schemas.base import given, present
from elastickv.schemas.measurement import Load, Measurement, Quota, Snapshot
from elastickv.schemas.parts import Machine, Process, Reading

# Other load, in cores, from which on it is named in the reason of a noisy record.
WORTH_NAMING = 0.1


def readings(state: State) -> Machine:
    """The `machine` part of a record: how GPU and CPU are set, and who else computed on the GPU."""
    if isinstance(state, CpuState):
        return Machine(cpu=state.settings())
    return Machine(gpu=state.settings(), cpu=cpu_state.settings(), others_on_gpu=state.others())


def with_readings(record: Measurement, state: State, begun: Snapshot, ended: Snapshot) -> Measurement:
    """The record with the machine's readings, and the status that follows from them (see `disturbed`).

    begun, ended: snapshots before and after the whole measurement, setting up and checking included.
    """
    record = record.model_copy(update={"machine": readings(state)})
    if given(record.clocks.after) is None:  # nothing was timed
        return record
    power, energy = Reading(value=None, reason=state.power_reason), record.energy
    if given(ended.power_w) is not None:
        power = Reading(watts_at_end=ended.power_w, watts_after_samples=record.clocks.after.power_w)
    if given(ended.energy_j) is not None:
        energy = energy.model_copy(update={"joules": ended.energy_j - begun.energy_j})
    throttling = state.seen().model_copy(update=present(record.throttling))
    return disturbed(record.model_copy(update={"throttling": throttling, "power": power, "energy": energy}))


def gpu_shared(others: Sequence[Process]) -> str | None:
    """Who computed on the same GPU meanwhile, or None. An idle process that only holds memory takes no time; one of
    that is not reported by the driver counts as busy."""
    busy = [process for process in others if process.sm_percent != 0]
    if not busy:
        return None
    return f"the GPU was shared: {', '.join(map(_named, busy))}"


def gpu_alone(state: State) -> bool:
    """Whether no other process used the GPU so far; otherwise a ceiling would be too low."""
    return isinstance(state, CpuState) or not gpu_shared(state.others().value or [])


def _named(process: Process) -> str:
    name = f"process {process.pid}" + (f" ({process.name})" if process.name else "")
    if process.sm_percent is None:
        return f"{name} was on it, computing or not"
    return f"{name} computed on it, up to {process.sm_percent}% of the time"


def disturbed(record: Measurement) -> Measurement:
    """The record, with its status changed if other processes used the machine.

    A GPU that others used: `noisy` regardless of the control, because the control's arms are affected alike and a busy
    memory changes ratios without making them uncertain. A loaded CPU: `machine.meanwhile` names it, and so does the
    reason of what is `noisy`; a steady control under load is as good as any.
    """
    others = given(record.machine.others_on_gpu)
    shared = gpu_shared(others.value or []) if others else None
    if shared and record.status in ("ok", "noisy"):
        reason = "; ".join(filter(None, (shared, record.reason)))
        return record.model_copy(update={"status": "noisy", "reason": reason})
    if given(record.machine.gpu) is not None:
        return record
    loaded = _cpu_loaded(record)
    record = record.model_copy(update={"machine": record.machine.model_copy(update={"meanwhile": loaded})})
    if record.status != "noisy" or not loaded:
        return record
    return record.model_copy(update={"reason": f"{record.reason}; meanwhile {loaded}"})


def _cpu_loaded(record: Measurement) -> str | None:
    """What kept a measurement on a CPU from its cores while samples were taken, as far as it is known; or None."""
    load, quota = record.clocks.after.load, record.throttling.quota
    cores, reasons = record.machine.cpu["usable_cores"].value, []
    if isinstance(load, Load) and load.others_cores >= WORTH_NAMING:
        named = ", ".join(f"{process.name} ({process.pid})" for process in load.busiest)
        reasons.append(f"other processes kept {load.others_cores:.1f} of {cores} cores busy{named and f': {named}'}")
    if isinstance(load, Load) and load.stolen_cores >= WORTH_NAMING:
        reasons.append(f"the hypervisor gave {load.stolen_cores:.1f} of {cores} cores to others")
    if isinstance(quota, Quota) and quota.seconds > 0:
        reasons.append(f"the container's CPU quota stopped it for {quota.seconds:.2f} s")
    return "; ".join(reasons) or None
