"""Sections of the report about the machine's state during the measurements: clocks, load, energy, other processes.

A reading that a record does not have is shown as a dash.
"""

from __future__ import annotations

from elastickv.report.inputs import Case, Inputs
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, times
from elastickv.schemas.base import at, given
from elastickv.schemas.measurement import Measurement, Range, Throttling
from elastickv.schemas.parts import Others, Setting, Unavailable

ENERGY_NOTE = """Energy of one attention layer per token of one sequence, from the device's energy counter while only
one arm ran for a second, including idle power."""


def conditions(inputs: Inputs) -> str:
    """Machine state of every timed case of this device, including noisy ones; empty if no record has any."""
    timed = [case for case in inputs.cases if at(case.record, ("clocks", "before"))]
    timed = [case for case in timed if not inputs.is_foreign(case)]
    if not timed:
        return ""
    on_gpu = [case for case in timed if case.record.resolved.backend == "cuda"]
    on_cpu = [case for case in timed if case.record.resolved.backend == "cpu"]
    parts = [_settings(inputs, timed), _gpu(on_gpu), _load(timed if on_cpu else []), _energy(on_gpu)]
    return "\n\n".join(["## State of the machine", *filter(None, parts)])


def _settings(inputs: Inputs, timed: list[Case]) -> str:
    """Settings of the machine; a setting that is not reported has its reason."""
    machines = (given(record.machine) for record in (*(case.record for case in timed), inputs.ceilings) if record)
    found = next(filter(None, machines), None)
    if found is None:
        return ""
    rows = [
        [f"{kind.upper()}: {escape(name.replace('_', ' '))}", _reading(reading)]
        for kind, settings in (("gpu", given(found.gpu) or {}), ("cpu", found.cpu))
        for name, reading in settings.items()
    ]
    return table(rows, ["setting", ""])


def _reading(reading: Setting) -> str:
    value = reading.value
    if value is None:
        return _unavailable(reading)
    if isinstance(value, bool):
        return "on" if value else "off"
    return escape(f"{value:g}" if isinstance(value, float) else value)


def _unavailable(reading: Setting | Others | Unavailable) -> str:
    """A dash, and the reason why there is no value."""
    return f"{NOTHING} {escape(reading.reason)}"


def _gpu(cases: list[Case]) -> str:
    rows = []
    for case in cases:
        record, throttling = case.record, given(case.record.throttling)
        dropped = len(at(record, ("samples", "dropped")) or ())
        ranges, after = at(throttling, ("ranges",)) or {}, record.clocks.after.model_extra
        quantities = [
            _range(ranges.get(key), after.get(key)) for key in ("sm_mhz", "memory_mhz", "temperature_c", "power_w")
        ]
        rows.append([f"`{case.id}`", *quantities, _reasons(throttling), dropped, _others(record)])
    headers = ["case", "SM, MHz", "memory, MHz", "temperature, C", "power, W", "clocks limited by", "dropped rounds"]
    return table(rows, [*headers, "others on the GPU"]) if rows else ""


def _range(seen: Range | Unavailable | None, after: float | None) -> str:
    """The range of readings during sampling, otherwise the single reading at the end."""
    if not isinstance(seen, Range):
        return NOTHING if after is None else f"{after:,.0f}"
    low, high = (f"{bound:,.0f}" for bound in (seen.low, seen.high))
    return low if low == high else f"{low} to {high}"


def _reasons(throttling: Throttling | None) -> str:
    reasons, readings = at(throttling, ("reasons",)), at(throttling, ("readings",))
    if reasons is None or readings is None:
        return NOTHING
    if isinstance(reasons, Unavailable):
        return _unavailable(reasons)
    return escape(", ".join(f"{name} ({count} of {readings})" for name, count in reasons.items()) or "nothing")


def _others(record: Measurement) -> str:
    others = at(record, ("machine", "others_on_gpu"))
    if others is None:
        return NOTHING
    if others.value is None:
        return _unavailable(others)
    named = [f"{process.name or '?'} ({process.pid})" for process in others.value]
    return escape(", ".join(named) or "none")


def _load(cases: list[Case]) -> str:
    """Load of other processes in cores, during set-up and during sampling."""
    rows = []
    for case in cases:
        before, after = case.record.clocks.before, case.record.clocks.after
        quota, mhz = at(case.record, ("throttling", "quota", "seconds")), after.model_extra.get("mhz")
        rows.append(
            [
                f"`{case.id}`",
                *(_cores(at(snapshot, ("load", "others_cores"))) for snapshot in (before, after)),
                _cores(at(after, ("load", "stolen_cores"))),
                NOTHING if quota is None else f"{quota:.2f} s",
                NOTHING if mhz is None else f"{mhz:,.0f}",
            ]
        )
    headers = ["case", "others' load before, cores", "others' load during", "taken by the hypervisor"]
    return table(rows, [*headers, "stopped by the quota", "MHz"]) if rows else ""


def _cores(load: float | None) -> str:
    return NOTHING if load is None else f"{load:.2f}"


def _energy(cases: list[Case]) -> str:
    """Energy per token of both arms, for the cases that have it; if none has, the reason."""
    rows = []
    for case in cases:
        token = at(case.record, ("energy", "joules_per_token"))
        if case.publishable and at(token, ("full",)) is not None:
            arms = case.record.energy.arms
            watts = (arms.full.watts, arms.elastic.watts)
            joules, ratio = (token.full, token.elastic), times(token.full / token.elastic)
            rows.append([f"`{case.id}`", *(f"{one * 1e3:.4g}" for one in joules), ratio, *(f"{w:,.0f}" for w in watts)])
    headers = ["case", "full cache, mJ/token", "elastic, mJ/token", "full / elastic", "full, W", "elastic, W"]
    return f"{table(rows, headers)}\n\n{ENERGY_NOTE}" if rows else ""
