"""From workers' entries to the record of one peer for the whole run. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from elastickv.peers.base import Peer
from elastickv.schemas import config as keys
from elastickv.schemas.case import DecodeCase
from elastickv.schemas.parts import BuildUsed, Device, Software
from elastickv.schemas.peers import Cache, Entry, Library, Peers, Settings

SCHEMA = "peers/2"
MEASURED = ("ok", "noisy")


class About(NamedTuple):
    """What a record says beside its cases: with which bounds and libraries, on what and since when they were measured.

    device, build: None where nothing was measured.
    """

    backend: str | None
    settings: Settings
    library: Library
    device: Device | None
    software: Software
    build: BuildUsed | None
    started: str


def for_peers(case: DecodeCase, settings: keys.Peers) -> DecodeCase:
    """The case as it is measured beside peers: no inference cycle, every launch mode there is, the peers' limits."""
    limits = {"decode_tokens": 0, "reps": settings.reps, "max_seconds": settings.max_seconds}
    return case.model_copy(update={"launch": "auto", "measure": case.measure.model_copy(update=limits)})


def case_entry(case: DecodeCase, found: Mapping[str, Any]) -> Entry:
    """One case's entry out of a worker's, or of a status and a reason that hold for all of it. case: as measured."""
    status, reason = found["status"], found["reason"]
    if "full" in found:
        return Entry(case=case, status=status, reason=reason, full=found["full"], elastic=found["elastic"])
    nothing = Cache(status=status, reason=reason, correctness=None)
    return Entry(case=case, status=status, reason=reason, full=nothing, elastic=nothing)


def compose(about: About, peer: Peer, entries: Sequence[Entry], ended: str) -> Peers:
    """The record. Its status: the best of its cases'; without figures also every reason that was given."""
    status, reason = overall(entries)
    return Peers(
        peer=peer.name,
        times=peer.times,
        status=status,
        reason=reason,
        **about._asdict(),
        ended=ended,
        cases=list(entries),
    )


def overall(entries: Sequence[Entry]) -> tuple[str, str | None]:
    """`ok` when any case is, else `noisy`, else the first case's status."""
    statuses = [entry.status for entry in entries]
    if "ok" in statuses:
        return "ok", None
    reasons = "; ".join(dict.fromkeys(entry.reason for entry in entries))
    return "noisy" if "noisy" in statuses else statuses[0], reasons


def merged(peer: Peer, records: Sequence[Peers]) -> Peers:
    """One record of records of single cases, in their order: what they share is the first measured one's."""
    first = next((one for one in records if one.status in MEASURED), records[0])
    about = About(**{name: getattr(first, name) for name in About._fields})
    about = about._replace(started=min(one.started for one in records))
    entries = [entry for one in records for entry in one.cases]
    return compose(about, peer, entries, max(one.ended for one in records))
