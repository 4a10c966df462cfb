"""The speedup of steady work, computed again from its blocks."""

from __future__ import annotations

from typing import Any

from elastickv.audit import intervals, processes
from elastickv.audit.finding import About

LEAST_BUSY = 0.95
FEWEST = 3  # processes
ORDER = ["full", "elastic", "elastic", "full"]


def check(about: About, record: dict[str, Any]) -> None:
    """The blocks of every process, and the interval over the processes. Records of a CPU have none."""
    found, settings = record["statistics"].get("sustained"), record["case"]["measure"]
    count, seconds = processes.requested(record), settings["sustained_seconds"]
    where = "statistics.sustained"
    if found is None:
        return
    if "runs" not in found:
        possible = record["resolved"]["backend"] == "cuda" and count >= FEWEST and seconds > 0
        complete = possible and all(run["speedup"] for run in processes.runs_of(record))
        about.require(not complete, where, f"none ({found['reason']})", f"that of {count} processes")
        return
    if not about.require(len(found["runs"]) == count, f"{where}.runs", len(found["runs"]), f"{count} processes"):
        return
    about.same(f"{where}.seconds", found["seconds"], seconds)
    for index, blocks in enumerate(found["runs"]):
        _blocks(about, f"{where}.runs.{index}", blocks, seconds)
    busy = min(block["busy"] for blocks in found["runs"] for block in blocks)
    enough = busy >= LEAST_BUSY and count >= FEWEST
    stated = "a speedup" if found["speedup"] else "none"
    reason = f"blocks of {count} processes, busy {busy:.1%} of the time"
    if (
        about.require(bool(found["speedup"]) == enough, f"{where}.speedup", stated, f"what follows from {reason}")
        and enough
    ):
        values = [_per_launch(blocks, "full") / _per_launch(blocks, "elastic") for blocks in found["runs"]]
        intervals.over_processes(about, f"{where}.speedup", values, found["speedup"], settings["confidence"])


def _blocks(about: About, where: str, blocks: list[dict[str, Any]], seconds: float) -> None:
    """Their order and lengths."""
    about.same(f"{where}.arm", [block["arm"] for block in blocks], ORDER)
    for index, block in enumerate(blocks):
        taken = block["seconds"]
        about.require(taken >= seconds, f"{where}.{index}.seconds", taken, f"at least {seconds:g}")


def _per_launch(blocks: list[dict[str, Any]], arm: str) -> float:
    chosen = [block for block in blocks if block["arm"] == arm]
    return sum(block["seconds"] for block in chosen) / sum(block["launches"] for block in chosen)
