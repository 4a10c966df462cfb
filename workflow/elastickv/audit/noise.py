"""Judges controls from the definition (docs/how-we-measure.md): a record's status, and the interval to publish."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]
Bounds = tuple[float, float]


def bounds(interval: Record, controls: list[Record], limits: Record, backend: str) -> tuple[str, Bounds | None]:
    """The status of a ratio by its controls, and its publishable bounds (None if it has none)."""
    ends, most = [(control["low"], control["high"]) for control in controls], limits[backend]
    if all(1 - most <= low <= high <= 1 + most for low, high in ends):
        return "ok", (interval["low"], interval["high"])
    if not all(0 < low <= high and low <= 1 + most and high >= 1 - most for low, high in ends):
        return "noisy", None
    widening = stray(controls)
    low, high = interval["low"] / widening, interval["high"] * widening
    farthest = max(interval["value"] - low, high - interval["value"])
    within = farthest <= limits["widest"] * interval["value"]
    return ("imprecise", (low, high)) if within else ("noisy", None)


def stray(controls: Iterable[Record]) -> float:
    """The largest deviation of a control's bound from 1, as a factor."""
    return math.exp(max(abs(math.log(control[end])) for control in controls for end in ("low", "high")))


def controls_of(record: Record) -> list[Record]:
    """All controls of a measured record, those of its single processes too."""
    runs = (record.get("processes") or {}).get("runs", [])
    groups = [record["statistics"]["controls"], *(run["controls"] or {} for run in runs)]
    return [control for group in groups for control in group.values()]


def judged(record: Record, limits: Record) -> Record:
    """A measurement record with the status and the speedup's bounds that its controls and bytes allow."""
    if record["status"] != "ok":
        return record
    speedup, moved = record["statistics"]["speedup"], record["bytes"]
    status, shown = bounds(speedup, controls_of(record), limits, record["resolved"]["backend"])
    if shown and moved["elastic"] < moved["full"] and shown[0] > moved["ceiling"]:
        status, shown = "noisy", None
    low, high = shown or (speedup["low"], speedup["high"])
    statistics = record["statistics"] | {"speedup": speedup | {"low": low, "high": high}}
    return record | {"status": status, "statistics": statistics}


def judged_peer(record: Record, limits: Record) -> Record:
    """A peer's record with the bounds of each ratio that its controls allow."""
    record = copy.deepcopy(record)
    measured = [entry[cache] for entry in record["cases"] for cache in ("full", "elastic")]
    compared = [one for found in measured if found["status"] == "ok" for one in found["ours"].values() if one]
    for one in compared:
        _, shown = bounds(one["ratio"], [*one["controls"].values()], limits, record["backend"])
        one["ratio"] |= dict(zip(("low", "high"), shown or (), strict=False))
    return record
