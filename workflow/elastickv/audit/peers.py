"""Checks peer records: recomputes their comparisons from the rounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from elastickv.audit import correctness, intervals, rates, series, traffic
from elastickv.audit.finding import About
from elastickv.audit.measurement import arm_figures

MEASURED = ("ok", "noisy")
CACHES = ("full", "elastic")
SIDES = ("peer", "ours")
BEYOND_PEAK = 1.02


def check(about: About, record: dict[str, Any]) -> None:
    """Every case of a peer's record, and the status that follows from theirs."""
    rates.times(about, record)
    statuses = [entry["status"] for entry in record["cases"]]
    best = next((status for status in MEASURED if status in statuses), statuses[0])
    about.same("status", record["status"], best)
    for index, entry in enumerate(record["cases"]):
        where = f"cases.{index} ({entry['case']['id']})"
        about.same(f"{where}.status", entry["status"], entry["full"]["status"])
        for cache in CACHES:
            with about.recomputing(f"{where}.{cache}"):
                _cache(about, f"{where}.{cache}", record, entry["case"], cache, entry[cache])


def measurements(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Of every comparison of a peer's record: the case as measured, which comparison it is, and its samples."""
    for entry in record.get("cases", []):
        for cache in CACHES:
            for mode, compared in (entry[cache].get("ours") or {}).items():
                if compared:
                    yield entry["case"], f"{cache} {mode}", compared["samples"]


def _cache(
    about: About, where: str, record: dict[str, Any], case: dict[str, Any], cache: str, found: dict[str, Any]
) -> None:
    answer = found["correctness"]
    if answer:
        right = correctness.agrees(about, f"{where}.correctness", answer, case["dtype"], None)
        stated = f"{found['status']} although the answer is {'right' if right else 'wrong'}"
        about.require(right == (found["status"] != "incorrect"), f"{where}.status", stated, "a consistent status")
    if found["status"] not in MEASURED:
        return
    about.same(f"{where}.bytes", found["bytes"], getattr(traffic.moved(case), cache))
    seeds = found["resolved"]["checked_seeds"]
    about.require(case["seed"] not in seeds, f"{where}.resolved.checked_seeds", str(seeds), "other inputs than timed")
    for mode, compared in found["ours"].items():
        if compared:
            _comparison(about, f"{where}.ours.{mode}", case["measure"], compared)
            _within_peak(about, f"{where}.ours.{mode}", record, found["bytes"], compared)


def _within_peak(about: About, where: str, record: dict[str, Any], moved: int, found: dict[str, Any]) -> None:
    """No time is below what the bytes take at the datasheet's peak."""
    peak = record["device"].get("peak_gbps")
    for side in SIDES:
        least = moved / (peak * BEYOND_PEAK * 1e3) if peak else 0
        took = found[side]["median_us"]
        about.require(took >= least, f"{where}.{side}.median_us", took, f"at least {least:.4g} us, of {moved} bytes")


def _comparison(about: About, where: str, settings: dict[str, Any], found: dict[str, Any]) -> None:
    """Times of both kernels, their ratio, and the controls."""
    samples, confidence = found["samples"], settings["confidence"]
    series.check(about, f"{where}.samples", series.of(samples))
    for side in SIDES:
        times = series.of_side(samples, side)
        about.same(f"{where}.{side}", found[side], arm_figures(times, settings["truncate"]))
    intervals.check(about, f"{where}.ratio", series.ratios(samples, *SIDES), found["ratio"], confidence)
    for side, pair in series.controls(samples, SIDES).items():
        intervals.of_ratios(about, f"{where}.controls.{side}", pair, found["controls"][side], confidence)
