"""Energy by launch and token, against the watts, seconds and launches that they are made of."""

from __future__ import annotations

from typing import Any

from elastickv import kinds
from elastickv.audit.finding import About

LEAST_BUSY = 0.95  # share of the time in which the device has to work


def check(about: About, record: dict[str, Any]) -> None:
    """Nothing to check where the device reports no energy."""
    energy = record["energy"]
    for arm, taken in (energy.get("arms") or {}).items():
        if "joules_per_launch" not in taken:
            continue  # a reading with its reason
        busy = taken["busy"]
        about.require(busy >= LEAST_BUSY, f"energy.arms.{arm}.busy", busy, f"at least {LEAST_BUSY:g}, or no energy")
        expected = taken["watts"] * taken["seconds"] / taken["launches"]
        about.same(f"energy.arms.{arm}.joules_per_launch", taken["joules_per_launch"], expected)
        stated = energy["joules_per_launch"].get(arm)
        if stated is not None:
            about.same(f"energy.joules_per_launch.{arm}", stated, taken["joules_per_launch"])
            if kinds.of(record["case"]["workload"]).CACHE:
                per_token = energy["joules_per_token"].get(arm)
                about.same(f"energy.joules_per_token.{arm}", per_token, stated / record["case"]["batch"])


def undisturbed(about: About, record: dict[str, Any]) -> None:
    """A record is not `ok` when other processes computed on its GPU meanwhile."""
    others = (record.get("machine") or {}).get("others_on_gpu", {}).get("value") or []
    busy = [process["pid"] for process in others if process["sm_percent"] != 0]
    if record["status"] == "ok":
        about.require(not busy, "machine.others_on_gpu", f"processes {busy} at work on an ok record", "noisy")
