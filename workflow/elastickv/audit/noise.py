"""What a record's controls allow, from the definition: status, interval and mark of each case in verdicts.json."""

from __future__ import annotations

import math
from typing import Any

from elastickv.audit.finding import About

IMPRECISE = "~"
WITHOUT_NUMBER = ("invalid", "skipped")


def check(about: About, where: str, entry: dict[str, Any], record: dict[str, Any], thresholds: dict[str, Any]) -> None:
    """A verdict's status, published speedup and mark, by the record's controls and the limits of the run."""
    status, bounds = expected(record, thresholds["noise"])
    about.same(f"{where}.status", entry["status"], status)
    numbers, shown = entry["verdict"] not in WITHOUT_NUMBER, entry["criteria"]["speedup"]
    allowed = bounds is not None or not numbers
    if about.require(allowed, f"{where}.verdict", entry["verdict"], f"none with a number: {status}") and numbers:
        about.same(f"{where}.criteria.speedup.low", shown["low"], bounds[0])
        about.same(f"{where}.criteria.speedup.high", shown["high"], bounds[1])
    marked = f"{IMPRECISE} where a number is imprecise, else none"
    fits = entry["mark"].endswith(IMPRECISE) == (numbers and status == "imprecise")
    about.require(fits, f"{where}.mark", entry["mark"], marked)


def expected(record: dict[str, Any], limits: dict[str, float]) -> tuple[str, tuple[float, float] | None]:
    """The status that a record has by its controls, and its speedup's bounds as they may be shown (None: none may)."""
    if record["status"] != "ok":
        return record["status"], None
    runs = (record.get("processes") or {}).get("runs", [])
    groups = [record["statistics"]["controls"], *(run["controls"] or {} for run in runs)]
    ends = [(control["low"], control["high"]) for group in groups for control in group.values()]
    speedup, most = record["statistics"]["speedup"], limits[record["resolved"]["backend"]]
    if all(1 - most <= low <= high <= 1 + most for low, high in ends):
        return "ok", (speedup["low"], speedup["high"])
    if any(low > high or high < 1 - most or 1 + most < low for low, high in ends):
        return "noisy", None
    widening = math.exp(max(abs(math.log(end)) for pair in ends for end in pair))
    low, high = speedup["low"] / widening, speedup["high"] * widening
    farthest = max(speedup["value"] - low, high - speedup["value"])
    within = farthest <= limits["widest"] * speedup["value"]
    return ("imprecise", (low, high)) if within else ("noisy", None)
