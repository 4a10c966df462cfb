"""Judges a measurement by its controls: `ok`, `imprecise` or `noisy`, and the interval that may be published. Pure.

A control compares an arm with itself, so its ratio differs from 1 only by bias and imprecision. The largest allowed
distance from 1 is a threshold of the judge (`noise:` in the config); no record depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from elastickv.schemas.base import given, present
from elastickv.schemas.config import Noise
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.parts import Control, Interval

IMPRECISE_MARK = "~"
PUBLISHED = ("ok", "imprecise")
ORDER = (*PUBLISHED, "noisy")  # from best to worst


class Quality(NamedTuple):
    """A status, the reason if it is not `ok`, and the interval that may be published (None if none may)."""

    status: str
    reason: str | None
    interval: Interval | None


def judge(interval: Interval, controls: Mapping[str, Control], backend: str, limits: Noise) -> Quality:
    """The quality of an interval of ratios, judged by the controls measured with it.

    controls: by name. limits: uses m, the limit of `backend`, and `widest`. `ok`: all controls are inside 1 +- m.
    `noisy`: a control is disjoint from 1 +- m (bias). `imprecise`: otherwise; the interval is widened by the largest
    deviation of any bound, and becomes `noisy` if an end is then farther than `widest` from the value. NaN is `noisy`.
    """
    most, widest = getattr(limits, backend), limits.widest
    inside = {name for name, one in controls.items() if 1 - most <= one.low <= one.high <= 1 + most}  # never with NaN
    outside = {name: one for name, one in controls.items() if name not in inside}
    if not outside:
        return Quality("ok", None, interval)
    meeting = {name for name, one in outside.items() if 0 < one.low <= one.high >= 1 - most and one.low <= 1 + most}
    biased = {name: one for name, one in outside.items() if name not in meeting}
    name, worst = max((biased or outside).items(), key=lambda item: deviation([item[1]]))
    control = f"the A/A control of {name}, [{worst.low:.4f}, {worst.high:.4f}],"
    around = f"1 +- {100 * most:.3g}%"
    if biased:
        return Quality("noisy", f"{control} is outside {around}", None)
    factor = deviation(controls.values())
    widened = interval.model_copy(update={"low": interval.low / factor, "high": interval.high * factor})
    near = interval.value * (1 - widest), interval.value * (1 + widest)
    reason = f"{control} is not inside {around}"
    if not (near[0] <= widened.low and widened.high <= near[1]):
        return Quality(
            "noisy", f"{reason}; after widening, the interval ends more than {widest:.0%} from its value", None
        )
    return Quality("imprecise", f"{reason}: the interval is widened by {factor - 1:.2%} to each side", widened)


def deviation(controls: Iterable[Control]) -> float:
    """The largest deviation of any control's bound from 1, as a factor >= 1: e to the largest |ln bound|."""
    return max((max(one.high, 1 / one.low if one.low > 0 else float("inf")) for one in controls), default=1.0)


def controls_of(record: Measurement) -> dict[str, Control]:
    """All controls of a measurement record with statistics, including those of each process, by name."""
    found = {f"the {arm} cache": control for arm, control in present(record.statistics.controls).items()}
    several = given(record.processes)
    for number, run in enumerate(several.runs if several else [], start=1):
        for arm, control in (present(run.controls) if run.controls else {}).items():
            found[f"the {arm} cache in process {number}"] = control
    return found


def nothing_saved(record: Measurement) -> bool:
    """Whether the elastic arm moves as many bytes as the full cache, so that nothing was compressed."""
    return record.bytes.elastic >= record.bytes.full


def beyond_bytes(record: Measurement, speedup: Interval) -> str | None:
    """Why a speedup whose interval lies above its byte ceiling is no result, or None."""
    ceiling, roofline = record.bytes.ceiling, record.efficiency.full.roofline
    if nothing_saved(record) or speedup.low <= ceiling:
        return None
    reached = "no known share" if roofline is None else f"{roofline:.0%}"
    return (
        f"the speedup {speedup.value:.4g} [{speedup.low:.4g}, {speedup.high:.4g}] is above the byte ceiling "
        f"{ceiling:.4g}x: bytes bound it only where the full arm is at its limit; that arm reached {reached} of the "
        "read ceiling"
    )


def as_judged(record: Measurement, limits: Noise) -> Measurement:
    """A measurement record with the judge's status, reason and speedup. A status other than `ok` is kept.

    Noisy is also a speedup that is above its byte ceiling with its whole interval. The reason also names other load on
    the CPU's cores, if the record has it. The copy is not validated, since no written record may have the status
    `imprecise`.
    """
    if record.status != "ok":
        return record
    measured, machine = record.statistics, given(record.machine)
    found = judge(measured.speedup, controls_of(record), record.resolved.backend, limits)
    beyond = beyond_bytes(record, found.interval) if found.interval else None
    if beyond:
        found = Quality("noisy", beyond, None)
    if found.status == "ok":
        return record
    load = given(machine.meanwhile) if machine else None
    reason = f"{found.reason}; meanwhile {load}" if load else found.reason
    shown = measured.model_copy(update={"speedup": found.interval or measured.speedup})
    return record.model_copy(update={"status": found.status, "reason": reason, "statistics": shown})
