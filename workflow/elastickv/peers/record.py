"""From workers' entries to the record of one peer for the whole run. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from elastickv.judge import noise
from elastickv.schemas import config as keys
from elastickv.schemas.base import present
from elastickv.schemas.case import DecodeCase
from elastickv.schemas.peers import Cache, Comparison, Entry, Peers, Settings

MEASURED = ("ok", "noisy")


class JudgedComparison(Comparison):
    """A judged comparison: its status by its controls, and the publishable ratio."""

    status: Literal["ok", "imprecise", "noisy"]


def for_peers(case: DecodeCase, settings: keys.Peers | Settings) -> DecodeCase:
    """The case as measured with peers: without inference cycle, in every launch mode, with the peers' limits."""
    limits = {"decode_tokens": 0, "reps": settings.reps, "max_seconds": settings.max_seconds}
    return case.model_copy(update={"launch": "auto", "measure": case.measure.model_copy(update=limits)})


def case_entry(case: DecodeCase, found: Mapping[str, Any]) -> Entry:
    """One case's entry out of a worker's, or of a status and a reason that hold for all of it. case: as measured."""
    status, reason = found["status"], found["reason"]
    if "full" in found:
        return Entry(case=case, status=status, reason=reason, full=found["full"], elastic=found["elastic"])
    nothing = Cache(status=status, reason=reason, correctness=None)
    return Entry(case=case, status=status, reason=reason, full=nothing, elastic=nothing)


def compose(about: Mapping[str, Any], entries: Sequence[Entry]) -> Peers:
    """The record. Its status is the best of its cases; without figures, its reason lists every reason.

    about: its other fields.
    """
    status, reason = overall([(entry.status, entry.reason) for entry in entries])
    return Peers(status=status, reason=reason, cases=list(entries), **about)


def overall(cases: Sequence[tuple[str, str | None]]) -> tuple[str, str | None]:
    """`ok` when any case is, else `imprecise` or `noisy` when any is that, else the first case's status.

    cases: status and reason of each.
    """
    statuses = [status for status, _ in cases]
    if "ok" in statuses:
        return "ok", None
    reasons = "; ".join(dict.fromkeys(reason or "" for _, reason in cases))
    return next((status for status in ("imprecise", "noisy") if status in statuses), statuses[0]), reasons


def as_judged(record: Peers, limits: keys.Noise) -> Peers:
    """A peer's record with the statuses, reasons and ratios that the judge gives it. limits: the config's `noise`.

    Its comparisons are `JudgedComparison`; the copies are not validated, for no written record is `imprecise`.
    """
    if record.backend is None:  # nothing was measured
        return record
    entries = [_judged_entry(entry, record.backend, limits) for entry in record.cases]
    status, reason = overall([(entry.status, entry.reason) for entry in entries])
    return record.model_copy(update={"status": status, "reason": reason, "cases": entries})


def _judged_entry(entry: Entry, backend: str, limits: keys.Noise) -> Entry:
    full, elastic = (_judged_cache(cache, backend, limits) for cache in (entry.full, entry.elastic))
    return entry.model_copy(update={"status": full.status, "reason": full.reason, "full": full, "elastic": elastic})


def _judged_cache(found: Cache, backend: str, limits: keys.Noise) -> Cache:
    """One cache: `noisy` where one way of our launches is, else `imprecise` where one is, its ratio widened."""
    if found.status != "ok":
        return found
    ours, worst = {}, noise.Quality("ok", None, None)
    for mode, compared in found.ours:
        if compared is None:
            continue
        controls = {f"{side} ({mode})": control for side, control in present(compared.controls).items()}
        quality = noise.judge(compared.ratio, controls, backend, limits)
        worst = max(worst, quality, key=lambda one: noise.ORDER.index(one.status))
        shown = {"ratio": quality.interval or compared.ratio, "status": quality.status}
        ours[mode] = JudgedComparison.model_construct(**dict(compared) | shown)
    judged = {"status": worst.status, "reason": worst.reason, "ours": found.ours.model_copy(update=ours)}
    return found.model_copy(update=judged)


def merged(records: Sequence[Peers]) -> Peers:
    """One record of records of single cases, in their order: what they share is the first measured one's."""
    first = next((one for one in records if one.status in MEASURED), records[0])
    entries = [entry for one in records for entry in one.cases]
    status, reason = overall([(entry.status, entry.reason) for entry in entries])
    time = {"started": min(one.started for one in records), "ended": max(one.ended for one in records)}
    return first.model_copy(update={"status": status, "reason": reason, "cases": entries, **time})
