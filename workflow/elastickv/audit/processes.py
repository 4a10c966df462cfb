"""Checks a case that several processes measured: the result of each, the published one, and their spread."""

from __future__ import annotations

import statistics
from typing import Any

from elastickv.audit import intervals, series
from elastickv.audit.finding import About

SERIES = ("full", "elastic", "full_again")


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
    for arm in SERIES:
        of_runs = {f"{index}.{arm}_us": run[f"{arm}_us"] for index, run in enumerate(runs)}
        series.unlike(about, "processes.runs", of_runs)
    for index, run in enumerate(runs):
        series.check(about, f"processes.runs.{index}", {name: run[name] for name in run if name.endswith("_us")})
        if run["speedup"]:
            _run(about, f"processes.runs.{index}", run, record["case"]["measure"]["confidence"])
    speedups = [value for value in values(record, "speedup") if value is not None]
    about.same("processes.spread", found["spread"], {"low": min(speedups), "high": max(speedups)})
    ok = [run["speedup"]["value"] for run in runs if run["status"] == "ok"]
    quiet = 2 * len(ok) > len(runs)
    middle = statistics.median_low(ok if quiet else speedups)
    published = runs[found["published"]]
    about.same("processes.published", published["speedup"]["value"], middle)
    for arm in SERIES:
        about.same(f"samples.{arm}_us", record["samples"][f"{arm}_us"], published[f"{arm}_us"])
    expected = "noisy: fewer than half of the processes were not"
    about.require(quiet or record["status"] == "noisy", "status", record["status"], expected)


def _run(about: About, where: str, run: dict[str, Any], confidence: float) -> None:
    speedup, control = run["speedup"], run["controls"]["full"]
    intervals.of_ratios(about, f"{where}.speedup", (run["full_us"], run["elastic_us"]), speedup, confidence)
    intervals.of_ratios(about, f"{where}.controls.full", (run["full_us"], run["full_again_us"]), control, confidence)
