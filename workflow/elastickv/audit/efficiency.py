"""Checks the pure passes between samples, the efficiencies computed from them, and whether they allow `ok`."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from elastickv.audit import intervals, series
from elastickv.audit.finding import About
from elastickv.audit.traffic import Moved

BEYOND = 1.02  # a roofline above it means that the byte count is wrong or caches were warm
ARMS = ("full", "elastic")


class Passes:
    """The pure passes of a record by kind: microseconds of each, and its bandwidth in GB/s."""

    def __init__(self, taken: list[dict[str, Any]]):
        self.us, self.gbps = defaultdict(list), defaultdict(list)
        for entry in taken:
            self.us[entry.get("kind")].append(entry["us"])
            self.gbps[entry.get("kind")].append(entry["bytes"] / entry["us"] / 1e3)

    def ceiling(self, arm: str) -> list[float]:
        """The bandwidths that an arm is compared with: of its own mix of reads and writes, or of pure reads."""
        return self.gbps[f"mix_{arm}"] or self.gbps["read"]


def check(about: About, record: dict[str, Any], moved: Moved) -> None:
    """`bytes.reachable*`, `efficiency`, `original_score`, and the status as far as they decide it."""
    passes = Passes(record["samples"]["read_ceiling"])
    for index, entry in enumerate(record["samples"]["read_ceiling"]):
        arm = str(entry.get("kind")).removeprefix("pure_")
        if entry.get("kind") == f"pure_{arm}" and arm in ARMS:
            about.same(f"samples.read_ceiling.{index}.bytes", entry["bytes"], getattr(moved, arm))
    for arm in ARMS:  # one that writes much is compared with its own mix
        written = moved.written[arm]
        if written >= (getattr(moved, arm) - written) / 100:
            about.require(bool(passes.gbps[f"mix_{arm}"]), "samples.read_ceiling", "no pass", f"passes of mix_{arm}")
    _reachable(about, record, passes)
    for arm in ARMS:
        _arm(about, record, arm, getattr(moved, arm), passes)
    _original_score(about, record, passes)
    _status(about, record, passes)


def _reachable(about: About, record: dict[str, Any], passes: Passes) -> None:
    full, elastic = (passes.us[f"pure_{arm}"] for arm in ARMS)
    ratios = [one / other for one, other in zip(full, elastic, strict=True)]
    about.same("bytes.reachable_ceiling", record["bytes"]["reachable_ceiling"], statistics.median(ratios))
    low, high = intervals.bounds(ratios, record["case"]["measure"]["confidence"])
    times = {"full_us": statistics.median(full), "elastic_us": statistics.median(elastic)}
    about.same("bytes.reachable", record["bytes"]["reachable"], times | {"low": low, "high": high})


def _arm(about: About, record: dict[str, Any], arm: str, nbytes: int, passes: Passes) -> None:
    """One arm's bandwidth and its shares of peak and ceiling; none of the shares where the caches were not cold."""
    found, cold = record["efficiency"][arm], record["resolved"]["cold"]
    samples = series.of_side(record["samples"], arm)
    peak, ceiling = record["device"].get("peak_gbps"), statistics.median(passes.ceiling(arm))
    shortest, longest = intervals.bounds(samples, record["case"]["measure"]["confidence"])
    times = {"": statistics.median(samples), "_low": longest, "_high": shortest}
    expected = {"achieved_gbps": nbytes / times[""] / 1e3, "peak_gbps": peak, "ceiling_gbps": ceiling}
    for kind, limit in {"memory": peak, "roofline": ceiling}.items():
        shares = {f"{kind}{end}": time for end, time in times.items()}
        shares[f"pure_{kind}"] = statistics.median(passes.us[f"pure_{arm}"])
        expected |= {name: nbytes / time / 1e3 / limit if limit and cold else None for name, time in shares.items()}
    about.same(f"efficiency.{arm}", {key: value for key, value in found.items() if key != "reason"}, expected)
    about.require(cold or found.get("reason"), f"efficiency.{arm}.reason", "nothing", "why there are no shares")


def _original_score(about: About, record: dict[str, Any], passes: Passes) -> None:
    """min(1, 0.5 * copy ceiling / peak + 0.5 * speedup), where there is a peak: bus width x memory clock."""
    device, expected = record["device"], None
    peak = device.get("peak_gbps")
    if peak:
        share = statistics.median(passes.gbps["copy"]) / peak
        expected = min(1.0, 0.5 * share + 0.5 * record["statistics"]["speedup"]["value"])
    about.same("original_score", record["original_score"], expected)
    bits, khz = device.get("memory_bus_bits"), device.get("memory_clock_khz")
    if bits and khz:  # two transfers a clock
        about.same("device.peak_gbps", peak, 2 * khz * 1e3 * bits / 8 / 1e9)


def _status(about: About, record: dict[str, Any], passes: Passes) -> None:
    """A record with status `ok` must have no arm above its ceiling (on a CPU: plus the ceiling's spread)."""
    if record["status"] != "ok":
        return
    rates = passes.ceiling("elastic")
    on_cpu = record["resolved"]["backend"] == "cpu"
    most = BEYOND + ((max(rates) - min(rates)) / statistics.median(rates) if on_cpu else 0.0)
    highest = max(record["efficiency"][arm]["roofline"] or 0.0 for arm in ARMS)
    about.require(
        highest <= most, "status", f"ok although a roofline is {highest:.3f}", f"not ok: more than {most:.3f} cannot be"
    )
