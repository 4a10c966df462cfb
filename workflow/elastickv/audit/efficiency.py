"""Checks the pure passes between samples, the efficiencies computed from them, and whether they allow `ok`."""

from __future__ import annotations

import statistics
from typing import Any

from elastickv.audit import intervals
from elastickv.audit.finding import About
from elastickv.audit.traffic import Moved

BEYOND = 1.02  # a roofline above it means that the byte count is wrong or caches were warm
ARMS = ("full", "elastic")


def check(about: About, record: dict[str, Any], bytes_moved: Moved) -> None:
    """`bytes.reachable*`, `efficiency`, `original_score`, and the status as far as they decide it."""
    passes = Passes(record["samples"]["read_ceiling"])
    _passes(about, passes, bytes_moved)
    _reachable(about, record, passes)
    for arm in ARMS:
        _arm(about, record, arm, getattr(bytes_moved, arm), passes)
    _original_score(about, record, passes)
    _status(about, record, passes)


class Passes:
    """The pure passes of a record by kind: microseconds of each, and its bandwidth in GB/s."""

    def __init__(self, taken: list[dict[str, Any]]):
        self.taken = taken

    def us(self, kind: str) -> list[float]:
        return [entry["us"] for entry in self.taken if entry.get("kind") == kind]

    def gbps(self, kind: str) -> list[float]:
        return [entry["bytes"] / entry["us"] / 1e3 for entry in self.taken if entry.get("kind") == kind]

    def ceiling(self, arm: str) -> list[float]:
        """The bandwidths that an arm is compared with: of its own mix of reads and writes, or of pure reads."""
        return self.gbps(f"mix_{arm}") or self.gbps("read")


def _passes(about: About, passes: Passes, bytes_moved: Moved) -> None:
    """Passes over an arm's bytes state those bytes; an arm that writes much is compared with its own mix."""
    for index, entry in enumerate(passes.taken):
        arm = str(entry.get("kind", "")).removeprefix("pure_")
        if entry.get("kind") == f"pure_{arm}" and arm in ARMS:
            about.same(f"samples.read_ceiling.{index}.bytes", entry["bytes"], getattr(bytes_moved, arm))
    for arm in ARMS:
        written = bytes_moved.written[arm]
        if written >= (getattr(bytes_moved, arm) - written) / 100:
            count = len(passes.gbps(f"mix_{arm}"))
            about.require(count > 0, "samples.read_ceiling", "no pass", f"passes of kind mix_{arm}")


def _reachable(about: About, record: dict[str, Any], passes: Passes) -> None:
    found, confidence = record["bytes"], record["case"]["measure"]["confidence"]
    times = {arm: passes.us(f"pure_{arm}") for arm in ARMS}
    for arm in ARMS:
        about.same(f"bytes.reachable.{arm}_us", found["reachable"][f"{arm}_us"], statistics.median(times[arm]))
    ratios = [full / elastic for full, elastic in zip(times["full"], times["elastic"], strict=True)]
    about.same("bytes.reachable_ceiling", found["reachable_ceiling"], statistics.median(ratios))
    for key, bound in zip(("low", "high"), intervals.bounds(ratios, confidence), strict=True):
        about.same(f"bytes.reachable.{key}", found["reachable"][key], bound)


def _arm(about: About, record: dict[str, Any], arm: str, nbytes: int, passes: Passes) -> None:
    """One arm's bandwidth and its shares of peak and ceiling; none of the shares where the caches were not cold."""
    found, cold = record["efficiency"][arm], record["resolved"]["cold"]
    samples = record["samples"][f"{arm}_us"]
    rate = nbytes / statistics.median(samples) / 1e3
    pure = nbytes / statistics.median(passes.us(f"pure_{arm}")) / 1e3
    limits = {"memory": record["device"].get("peak_gbps"), "roofline": statistics.median(passes.ceiling(arm))}
    expected: dict[str, float | None] = {
        "achieved_gbps": rate,
        "peak_gbps": limits["memory"],
        "ceiling_gbps": limits["roofline"],
    }
    shortest, longest = intervals.bounds(samples, record["case"]["measure"]["confidence"])
    for kind, limit in limits.items():
        used = limit if cold else None
        expected |= {
            kind: rate / used if used else None,
            f"{kind}_low": nbytes / longest / 1e3 / used if used else None,
            f"{kind}_high": nbytes / shortest / 1e3 / used if used else None,
            f"pure_{kind}": pure / used if used else None,
        }
    for key, figure in expected.items():
        about.same(f"efficiency.{arm}.{key}", found.get(key), figure)
    stated = bool(found.get("reason"))
    about.require(cold or stated, f"efficiency.{arm}.reason", "nothing", "why there are no shares")


def _original_score(about: About, record: dict[str, Any], passes: Passes) -> None:
    """min(1, 0.5 * copy ceiling / peak + 0.5 * speedup), where there is a peak."""
    peak, expected = record["device"].get("peak_gbps"), None
    if peak:
        share = statistics.median(passes.gbps("copy")) / peak
        expected = min(1.0, 0.5 * share + 0.5 * record["statistics"]["speedup"]["value"])
    about.same("original_score", record["original_score"], expected)
    about.same("device.peak_gbps", peak, datasheet_peak(record["device"], peak))


def datasheet_peak(device: dict[str, Any], otherwise: float | None) -> float | None:
    """Bus width x memory clock (two transfers a clock) in GB/s where the device's facts name both."""
    bits, khz = device.get("memory_bus_bits"), device.get("memory_clock_khz")
    return 2 * khz * 1e3 * bits / 8 / 1e9 if bits and khz else otherwise


def _status(about: About, record: dict[str, Any], passes: Passes) -> None:
    """A record with status `ok` must have no arm above its ceiling (on a CPU: plus the ceiling's spread)."""
    if record["status"] != "ok":
        return
    backend = record["resolved"]["backend"]
    rates = passes.ceiling("elastic")
    spread = (max(rates) - min(rates)) / statistics.median(rates) if backend == "cpu" else 0.0
    highest = max(record["efficiency"][arm]["roofline"] or 0.0 for arm in ARMS)
    expected = f"not ok: more than {BEYOND + spread:.3f} cannot be"
    about.require(highest <= BEYOND + spread, "status", f"ok although a roofline is {highest:.3f}", expected)
