"""Sections of the report about the state of the machine while it measured: clocks, load, energy, who else was there.

Records made before a reading existed lack it; their rows have a dash there.
"""

from __future__ import annotations

from typing import Any

from elastickv.report.inputs import Case, Inputs
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, times

ENERGY_NOTE = """Of one attention layer and one token of one sequence: joules by the device's own counter while an arm
alone ran for a second, idle power included."""


def conditions(inputs: Inputs) -> str:
    """Machine state of every case of this device that was timed, noisy ones too; empty when no record tells any."""
    timed = [case for case in inputs.cases if case.record and "before" in (case.record.get("clocks") or {})]
    timed = [case for case in timed if not inputs.is_foreign(case)]
    if not timed:
        return ""
    on_gpu = [case for case in timed if case.record["resolved"]["backend"] == "cuda"]
    on_cpu = [case for case in timed if case.record["resolved"]["backend"] == "cpu"]
    parts = [_settings(inputs, timed), _gpu(on_gpu), _load(timed if on_cpu else []), _energy(on_gpu)]
    return "\n\n".join(["## State of the machine", *filter(None, parts)])


def _settings(inputs: Inputs, timed: list[Case]) -> str:
    """How the machine was set, with the reason where it does not tell."""
    records = [case.record for case in timed] + [inputs.ceilings or {}]
    found = next((record["machine"] for record in records if "machine" in record), None)
    if found is None:
        return ""
    rows = [
        [f"{kind.upper()}: {escape(name.replace('_', ' '))}", _reading(reading)]
        for kind in ("gpu", "cpu")
        for name, reading in found.get(kind, {}).items()
    ]
    return table(rows, ["setting", ""])


def _reading(reading: dict[str, Any]) -> str:
    value = reading["value"]
    if value is None:
        return f"{NOTHING} {escape(reading['reason'])}"
    if isinstance(value, bool):
        return "on" if value else "off"
    return escape(f"{value:g}" if isinstance(value, float) else value)


def _gpu(cases: list[Case]) -> str:
    rows = []
    for case in cases:
        record = case.record
        throttling, dropped = record["throttling"] or {}, len((record.get("samples") or {}).get("dropped", []))
        quantities = ("sm_mhz", "memory_mhz", "temperature_c", "power_w")
        ranges = [
            _range(throttling.get("ranges", {}).get(key), record["clocks"]["after"].get(key)) for key in quantities
        ]
        rows.append([f"`{case.id}`", *ranges, _reasons(throttling), dropped, _others(record)])
    headers = ["case", "SM, MHz", "memory, MHz", "temperature, C", "power, W", "clocks held back by", "dropped rounds"]
    return table(rows, [*headers, "others on the GPU"]) if rows else ""


def _range(seen: dict[str, Any] | None, after: float | None) -> str:
    """What was seen after the samples, else the one reading at their end."""
    if seen is None or "low" not in seen:
        return NOTHING if after is None else f"{after:,.0f}"
    low, high = (f"{seen[key]:,.0f}" for key in ("low", "high"))
    return low if low == high else f"{low} to {high}"


def _reasons(throttling: dict[str, Any]) -> str:
    reasons, readings = throttling.get("reasons"), throttling.get("readings")
    if reasons is None or readings is None:
        return NOTHING
    if "reason" in reasons:
        return f"{NOTHING} {escape(reasons['reason'])}"
    return escape(", ".join(f"{name} ({count} of {readings})" for name, count in reasons.items()) or "nothing")


def _others(record: dict[str, Any]) -> str:
    others = record.get("machine", {}).get("others_on_gpu")
    if others is None:
        return NOTHING
    if others["value"] is None:
        return f"{NOTHING} {escape(others['reason'])}"
    named = [f"{process['name'] or '?'} ({process['pid']})" for process in others["value"]]
    return escape(", ".join(named) or "none")


def _load(cases: list[Case]) -> str:
    """Load of others in cores, while a case was set up and while it was sampled."""
    rows = []
    for case in cases:
        clocks, throttling = case.record["clocks"], case.record["throttling"] or {}
        loads = [clocks[when].get("load") or {} for when in ("before", "after")]
        quota = throttling.get("quota", {}).get("seconds")
        stolen = loads[1].get("stolen_cores")
        rows.append(
            [
                f"`{case.id}`",
                *(_cores(load.get("others_cores")) for load in loads),
                _cores(stolen),
                NOTHING if quota is None else f"{quota:.2f} s",
                NOTHING if clocks["after"].get("mhz") is None else f"{clocks['after']['mhz']:,.0f}",
            ]
        )
    headers = ["case", "others' load before, cores", "others' load during", "taken by the hypervisor"]
    return table(rows, [*headers, "stopped by the quota", "MHz"]) if rows else ""


def _cores(load: float | None) -> str:
    return NOTHING if load is None else f"{load:.2f}"


def _energy(cases: list[Case]) -> str:
    """Energy per token of both arms, of the cases that have it; why not, where none has."""
    rows = []
    for case in cases:
        energy = (case.record["energy"] or {}).get("joules_per_token")
        if energy and "full" in energy and case.publishable:
            joules = [energy[arm] for arm in ("full", "elastic")]
            watts = [case.record["energy"]["arms"][arm]["watts"] for arm in ("full", "elastic")]
            ratio = times(joules[0] / joules[1])
            rows.append([f"`{case.id}`", *(f"{one * 1e3:.4g}" for one in joules), ratio, *(f"{w:,.0f}" for w in watts)])
    headers = ["case", "full cache, mJ a token", "elastic, mJ a token", "full / elastic", "full, W", "elastic, W"]
    return f"{table(rows, headers)}\n\n{ENERGY_NOTE}" if rows else ""
