"""Tables about the machine's state during the measurements: clocks, load, energy, other processes.

A reading that a record does not have is shown as a dash.
"""

from __future__ import annotations

from collections.abc import Callable

from elastickv.report import tables
from elastickv.report.inputs import Case, Inputs
from elastickv.report.text import NOTHING, escape, times
from elastickv.schemas.base import at, given
from elastickv.schemas.measurement import Measurement, Range
from elastickv.schemas.parts import Others, Setting, Unavailable


def conditions(inputs: Inputs) -> list[str]:
    """Settings, GPU and load of every timed case of this device, including noisy ones; empty if there are none."""
    timed = _timed(inputs)
    on_gpu, on_cpu = ([case for case in timed if case.record.resolved.backend == kind] for kind in ("cuda", "cpu"))
    return [_settings(inputs, timed), _gpu(on_gpu), _load(timed if on_cpu else [])] if timed else []


def _timed(inputs: Inputs) -> list[Case]:
    return [case for case in inputs.cases if at(case.record, ("clocks", "before")) and not inputs.is_foreign(case)]


def _settings(inputs: Inputs, timed: list[Case]) -> str:
    """Settings of the machine; a setting that is not reported has its reason."""
    machines = (given(record.machine) for record in (*(case.record for case in timed), inputs.ceilings) if record)
    found = next(filter(None, machines), None)
    if found is None:
        return ""
    settings = [("GPU", *item) for item in (given(found.gpu) or {}).items()]
    settings += [("CPU", *item) for item in found.cpu.items()]
    columns = {
        "setting": lambda row: f"{row[0]}: {escape(row[1].replace('_', ' '))}",
        "": lambda row: _reading(row[2]),
    }
    return tables.of(settings, columns)


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
    columns = {
        "case": lambda record: f"`{record.case.root.id}`",
        "SM, MHz": _range("sm_mhz"),
        "memory, MHz": _range("memory_mhz"),
        "temperature, C": _range("temperature_c"),
        "power, W": _range("power_w"),
        "clocks limited by": _reasons,
        "dropped rounds": lambda record: len(at(record, ("samples", "dropped")) or ()),
        "others on the GPU": _others,
    }
    return tables.of([case.record for case in cases], columns)


def _range(key: str) -> Callable[[Measurement], str]:
    """The range of readings during sampling, otherwise the single reading at the end."""

    def shown(record: Measurement) -> str:
        seen = (at(given(record.throttling), ("ranges",)) or {}).get(key)
        if not isinstance(seen, Range):
            after = record.clocks.after.model_extra.get(key)
            return NOTHING if after is None else f"{after:,.0f}"
        low, high = (f"{bound:,.0f}" for bound in (seen.low, seen.high))
        return low if low == high else f"{low} to {high}"

    return shown


def _reasons(record: Measurement) -> str:
    throttling = given(record.throttling)
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

    def reading(form: str, *path: str) -> Callable[[Case], str]:
        def shown(case: Case) -> str:
            value = at(case.record, path)
            return NOTHING if value is None else form.format(value)

        return shown

    columns = {
        "case": lambda case: f"`{case.id}`",
        "others' load before, cores": reading("{:.2f}", "clocks", "before", "load", "others_cores"),
        "others' load during": reading("{:.2f}", "clocks", "after", "load", "others_cores"),
        "taken by the hypervisor": reading("{:.2f}", "clocks", "after", "load", "stolen_cores"),
        "stopped by the quota": reading("{:.2f} s", "throttling", "quota", "seconds"),
        "MHz": reading("{:,.0f}", "clocks", "after", "mhz"),
    }
    return tables.of(cases, columns)


def energy(inputs: Inputs) -> str:
    """Energy per token of both arms with the share of the time in which the device worked, or why there is none."""

    def figure(form: str, *path: str, factor: float = 1) -> Callable[[Case], str]:
        def shown(case: Case) -> str:
            value = at(case.record, ("energy", *path))
            return NOTHING if value is None else form.format(value * factor)

        return shown

    def token(case: Case, arm: str) -> float | None:
        return at(case.record, ("energy", "joules_per_token", arm))

    def saved(case: Case) -> str:
        full, elastic = token(case, "full"), token(case, "elastic")
        return NOTHING if full is None or elastic is None else times(full / elastic)

    def reason(case: Case) -> str:
        if token(case, "full") is not None:
            return ""
        return escape(
            at(case.record, ("energy", "joules_per_token", "reason")) or at(case.record, ("energy", "reason")) or ""
        )

    measured = [case for case in _timed(inputs) if case.record.resolved.backend == "cuda" and case.publishable]
    columns = {
        "case": lambda case: f"`{case.id}`",
        "full cache, mJ/token": figure("{:.4g}", "joules_per_token", "full", factor=1e3),
        "elastic, mJ/token": figure("{:.4g}", "joules_per_token", "elastic", factor=1e3),
        "full / elastic": saved,
        "full, W": figure("{:,.0f}", "arms", "full", "watts"),
        "elastic, W": figure("{:,.0f}", "arms", "elastic", "watts"),
        "full, busy": figure("{:.1%}", "arms", "full", "busy"),
        "elastic, busy": figure("{:.1%}", "arms", "elastic", "busy"),
        "why none": reason,
    }
    if all(token(case, "full") is not None for case in measured):
        del columns["why none"]
    return tables.of(measured, columns)
