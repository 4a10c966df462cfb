"""Checks a case that several processes measured: the result of each, the published one, and their spread."""

from __future__ import annotations

import statistics
from typing import Any

from elastickv.audit import intervals, series
from elastickv.audit.finding import About

ARMS = ("full", "elastic")


def values(record: dict[str, Any], name: str) -> list[float | None]:
    """The value of an interval in every process (None: it had none); empty where one process measured."""
    runs = (record.get("processes") or {}).get("runs", [])
    return [run[name]["value"] if run[name] else None for run in runs]


def check(about: About, record: dict[str, Any]) -> None:
    """Every process's intervals from its samples; the published one is the median of those that count."""
    found, requested = record.get("processes"), record["case"]["measure"]["processes"]
    runs = found["runs"] if found else []
    stated = f"{len(runs)} processes" if found else "one process"
    about.require(max(len(runs), 1) == requested, "processes.runs", stated, f"{requested}, as in the case")
    if not found:
        return
    for index, run in enumerate(runs):
        if run["speedup"]:
            _run(about, f"processes.runs.{index}", run, record["case"]["measure"]["confidence"])
    speedups = [value for value in values(record, "speedup") if value is not None]
    about.same("processes.spread", found["spread"], {"low": min(speedups), "high": max(speedups)})
    ok = [run["speedup"]["value"] for run in runs if run["status"] == "ok"]
    quiet = 2 * len(ok) > len(runs)
    middle = statistics.median_low(ok if quiet else speedups)
    published = runs[found["published"]]
    about.same("processes.published", published["speedup"]["value"], middle)
    times = {key: record["samples"][key] for key in record["samples"] if key.endswith("_us")}
    for key, taken in times.items():
        about.same(f"samples.{key}", taken, published.get(key))
    expected = "noisy: fewer than half of the processes were not"
    about.require(quiet or record["status"] == "noisy", "status", record["status"], expected)


def _run(about: About, where: str, run: dict[str, Any], confidence: float) -> None:
    intervals.check(about, f"{where}.speedup", series.ratios(run, *ARMS), run["speedup"], confidence)
    controls = series.controls(run, ARMS)
    about.same(f"{where}.controls", sorted(run["controls"]), sorted(controls))
    for arm, pair in controls.items():
        if arm in run["controls"]:
            intervals.of_ratios(about, f"{where}.controls.{arm}", pair, run["controls"][arm], confidence)
