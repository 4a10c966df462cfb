"""Checks a case that several processes measured: the result of each, the published one, and what all came to."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from elastickv.audit import intervals, series
from elastickv.audit.finding import About

ARMS = ("full", "elastic")
ON_GPU = 3  # processes of `auto` on a GPU; one on a CPU


def runs_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What every process found; empty where one process measured."""
    return (record.get("processes") or {}).get("runs", [])


def measurements(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Of every process of a measurement record: the case, which process it is, and its samples."""
    if record.get("samples"):
        for index, samples in enumerate(runs_of(record) or [record["samples"]]):
            yield record["case"], f"process {index + 1}", samples


def own(record: dict[str, Any], name: str, stated: dict[str, Any]) -> dict[str, Any]:
    """The interval inside the process whose samples the record has: `stated` where there is no other process."""
    runs = runs_of(record)
    return runs[record["processes"]["published"]][name] or stated if runs else stated


def requested(record: dict[str, Any]) -> int:
    """How many processes the case asks for on the device of the record."""
    wanted = record["case"]["measure"]["processes"]
    automatic = ON_GPU if record["resolved"]["backend"] == "cuda" else 1
    return automatic if wanted == "auto" else wanted


def check(about: About, record: dict[str, Any]) -> None:
    """Every process's intervals from its samples; the published one is the median of those that count."""
    found, wanted = record.get("processes"), requested(record)
    runs = runs_of(record)
    stated = f"{len(runs)} processes" if found else "one process"
    about.require(max(len(runs), 1) == wanted, "processes.runs", stated, f"{wanted}, as in the case")
    about.same("resolved.processes", record["resolved"]["processes"], wanted)
    if not found:
        return
    confidence = record["case"]["measure"]["confidence"]
    times = {f"{index}.{name}": values for index, run in enumerate(runs) for name, values in series.of(run).items()}
    series.check(about, "processes.runs", times)
    for index, run in enumerate(runs):
        if run["speedup"]:
            _run(about, f"processes.runs.{index}", run, confidence)
    speedups = [run["speedup"]["value"] for run in runs if run["speedup"]]
    about.same("processes.spread", found["spread"], {"low": min(speedups), "high": max(speedups)})
    largest = max(_variation(run) for run in runs if run["speedup"])
    about.same("processes.cv", found["cv"], largest)
    ok = [run["speedup"]["value"] for run in runs if run["status"] == "ok"]
    quiet = 2 * len(ok) > len(runs)
    middle = statistics.median_low(ok if quiet else speedups)
    published = runs[found["published"]]
    about.same("processes.published", published["speedup"]["value"], middle)
    for name, times in series.of(record["samples"]).items():
        about.same(f"samples.{name}", times, published[name])
    if record.get("inference_cycle"):
        rates = record["inference_cycle"]["layer_steps_per_second"]
        about.same("processes.runs.layer_steps_per_second", published["layer_steps_per_second"], rates)
    expected = "noisy: fewer than half of the processes were not"
    about.require(quiet or record["status"] == "noisy", "status", record["status"], expected)
    _pooled(about, record, runs, confidence)


def _pooled(about: About, record: dict[str, Any], runs: list[dict[str, Any]], confidence: float) -> None:
    """The speedups of attention and of the cycle, over all processes that have one."""
    stated = {("statistics", "speedup"): record["statistics"]}
    if record.get("inference_cycle"):
        stated["inference_cycle", "cycle_speedup"] = record["inference_cycle"]
    for (part, name), figures in stated.items():
        within = [run[name] for run in runs if run[name]]
        if len(within) > 1:
            values = [one["value"] for one in within]
            intervals.over_processes(about, f"{part}.speedup", values, figures["speedup"], confidence, within)


def _run(about: About, where: str, run: dict[str, Any], confidence: float) -> None:
    intervals.check(about, f"{where}.speedup", series.ratios(run, *ARMS), run["speedup"], confidence)
    for arm, pair in series.controls(run, ARMS).items():
        intervals.of_ratios(about, f"{where}.controls.{arm}", pair, run["controls"][arm], confidence)
    about.same(f"{where}.cv", run["cv"], _variation(run))


def _variation(run: dict[str, Any]) -> float:
    """Coefficient of variation of all samples of the elastic arm in one process."""
    times = series.of_side(run, "elastic")
    return statistics.stdev(times) / statistics.fmean(times) if len(times) > 1 else 0.0
