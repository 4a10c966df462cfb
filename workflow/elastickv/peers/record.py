"""From workers' entries to the record of one peer for the whole run. Pure functions."""

from __future__ import annotations

from typing import Any

from elastickv.peers.base import Peer
from elastickv.schemas import config as keys
from elastickv.schemas.case import DecodeCase

SCHEMA = "peers/2"
MEASURED = ("ok", "noisy")


def for_peers(case: DecodeCase, settings: keys.Peers) -> DecodeCase:
    """The case as it is measured beside peers: no inference cycle, every launch mode there is, the peers' limits."""
    limits = {"decode_tokens": 0, "reps": settings.reps, "max_seconds": settings.max_seconds}
    return case.model_copy(update={"launch": "auto", "measure": case.measure.model_copy(update=limits)})


def case_entry(case: DecodeCase, found: dict[str, Any]) -> dict[str, Any]:
    """One case's entry out of a worker's, or of a status and a reason that hold for all of it. case: as measured."""
    content = case.model_dump(mode="json")
    if "full" in found:
        return {"case": content, **{key: found[key] for key in ("status", "reason", "full", "elastic")}}
    status = {"status": found["status"], "reason": found["reason"]}
    nothing = {**status, "correctness": None}
    return {"case": content, **status, "full": nothing, "elastic": dict(nothing)}


def compose(head: dict[str, Any], peer: Peer, entries: list[dict[str, Any]], ended: str) -> dict[str, Any]:
    """The record. Its status: the best of its cases'; without figures also every reason that was given.

    head: backend, settings, library, device, software, build, started.
    """
    status, reason = overall(entries)
    return {
        "schema": SCHEMA,
        "peer": peer.name,
        "times": peer.times,
        "status": status,
        "reason": reason,
        **head,
        "ended": ended,
        "cases": entries,
    }


def overall(entries: list[dict[str, Any]]) -> tuple[str, str | None]:
    """`ok` when any case is, else `noisy`, else the first case's status."""
    statuses = [entry["status"] for entry in entries]
    if "ok" in statuses:
        return "ok", None
    reasons = "; ".join(dict.fromkeys(entry["reason"] for entry in entries))
    return "noisy" if "noisy" in statuses else statuses[0], reasons


def merged(peer: Peer, records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of records of single cases, in their order: what they share is the first measured one's."""
    first = next((one for one in records if one["status"] in MEASURED), records[0])
    shared = {key: first[key] for key in ("backend", "settings", "library", "device", "software", "build")}
    shared["started"] = min(one["started"] for one in records)
    entries = [entry for one in records for entry in one["cases"]]
    return compose(shared, peer, entries, max(one["ended"] for one in records))
