"""What the state of the machine does to a record: its readings go in, and whoever else was at work is named."""

from __future__ import annotations

from typing import Any

from elastickv import records
from elastickv.device import State, cpu_state
from elastickv.device.cpu_state import CpuState
from elastickv.device.nvml import untold
from elastickv.schemas.parts import Told

# Others' load, in cores, from which on it is named beside a control that shows noise.
WORTH_NAMING = 0.1


def readings(state: State) -> dict[str, Any]:
    """The `machine` part of a record: how GPU and CPU are set, and who else computed on the GPU."""
    if isinstance(state, CpuState):
        return {"cpu": _json(state.settings())}
    others = records.content(state.others())
    return {"gpu": _json(state.settings()), "cpu": _json(cpu_state.settings()), "others_on_gpu": others}


def _json(settings: dict[str, Told]) -> dict[str, Any]:
    return {name: records.content(one) for name, one in settings.items()}


def with_readings(fields: dict[str, Any], state: State, begun: dict[str, Any], ended: dict[str, Any]) -> dict[str, Any]:
    """Fields of `run.measure` with the machine's readings, and the status that follows from them (see `disturbed`).

    begun, ended: snapshots before and after the whole measurement, setting up and checking included.
    """
    fields = {**fields, "machine": readings(state)}
    if "clocks" not in fields:  # nothing was timed
        return fields
    fields["throttling"] = {**fields["throttling"], **records.content(state.seen())}
    if ended.get("power_w") is None:
        fields["power"] = untold(state.power_reason).to_json()
    else:
        after = fields["clocks"]["after"]["power_w"]
        fields["power"] = {"watts_at_end": ended["power_w"], "watts_after_samples": after}
    if ended.get("energy_j") is not None:
        fields["energy"] = {"joules": ended["energy_j"] - begun["energy_j"], **fields["energy"]}
    return disturbed(fields)


def gpu_shared(others: list[dict[str, Any]]) -> str | None:
    """Who computed on the same GPU meanwhile, or None. An idle process that only holds memory takes no time; one of
    which the driver does not tell is taken for busy."""
    busy = [process for process in others if process["sm_percent"] != 0]
    if not busy:
        return None
    return f"the GPU was shared: {', '.join(map(_named, busy))}"


def gpu_alone(state: State) -> bool:
    """Whether nobody else computed on the GPU so far; a ceiling that others held down would be no ceiling."""
    return isinstance(state, CpuState) or not gpu_shared(records.content(state.others())["value"] or [])


def _named(process: dict[str, Any]) -> str:
    name = f"process {process['pid']}" + (f" ({process['name']})" if process["name"] else "")
    if process["sm_percent"] is None:
        return f"{name} was on it, computing or not"
    return f"{name} computed on it, up to {process['sm_percent']}% of the time"


def cpu_loaded(load: dict[str, Any], cores: int, stopped_seconds: float = 0.0) -> str | None:
    """What kept this process from its cores while samples were taken, or None. load: as `cpu_state.load_between`."""
    said = []
    if load.get("others_cores", 0) >= WORTH_NAMING:
        named = ", ".join(f"{process['name']} ({process['pid']})" for process in load["busiest"])
        said.append(f"other processes kept {load['others_cores']:.1f} of {cores} cores busy{named and f': {named}'}")
    if load.get("stolen_cores", 0) >= WORTH_NAMING:
        said.append(f"the hypervisor gave {load['stolen_cores']:.1f} of {cores} cores to others")
    if stopped_seconds > 0:
        said.append(f"the container's CPU quota stopped it for {stopped_seconds:.2f} s")
    return "; ".join(said) or None


def disturbed(fields: dict[str, Any]) -> dict[str, Any]:
    """Measured fields of a record, their status changed where the machine was not this measurement's alone.

    A GPU that others computed on: `noisy`, whatever the control says, for the control's arms suffer alike and a busy
    memory changes ratios without making them uncertain. A loaded CPU: `machine.meanwhile` names it, and so does the
    reason of what is `noisy`; a steady control under load is as good as any.
    """
    shared = gpu_shared(fields["machine"].get("others_on_gpu", {}).get("value") or [])
    if shared and fields["status"] in ("ok", "noisy"):
        return {**fields, "status": "noisy", "reason": "; ".join(filter(None, (shared, fields["reason"])))}
    if "gpu" in fields["machine"]:
        return fields
    stopped = fields["throttling"].get("quota", {}).get("seconds") or 0.0
    cores = fields["machine"]["cpu"]["usable_cores"]["value"]
    loaded = cpu_loaded(fields["clocks"]["after"]["load"], cores, stopped)
    fields = {**fields, "machine": {**fields["machine"], "meanwhile": loaded}}
    if fields["status"] != "noisy" or not loaded:
        return fields
    return {**fields, "reason": f"{fields['reason']}; meanwhile {loaded}"}
