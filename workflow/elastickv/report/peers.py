"""Compares our kernels with those of other libraries: the fastest peer of each case, and the ratio to ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import MISSING

from elastickv.judge import folder, noise
from elastickv.peers.record import JudgedComparison, as_judged, for_peers
from elastickv.report import tables
from elastickv.report.text import NOTHING, escape, microseconds, times, times_interval
from elastickv.schemas import peers as schema
from elastickv.schemas.base import at
from elastickv.schemas.case import AnyCase
from elastickv.schemas.config import Noise
from elastickv.schemas.parts import Interval

CACHES = {"full": "Full cache", "elastic": "The same elastic slots"}
LONGEST_REASON = 300


@dataclass(frozen=True)
class Beside:
    """One peer on one cache of one case, with judged figures.

    content: the case as planned. device: name of the device that measured both.
    """

    peer: str
    case: str
    cache: str
    entry: schema.Cache
    device: str
    content: AnyCase

    @property
    def us(self) -> float:
        """The peer's median, measured together with our plain launches."""
        return self.entry.ours.plain.peer.median_us

    def compared(self, mode: str) -> JudgedComparison | None:
        """Timed together with our launches of this mode. None if the device lacks the mode."""
        return getattr(self.entry.ours, mode)

    def ratio(self, mode: str) -> Interval | None:
        """Peer / ours with its interval: above 1, ours is faster."""
        return at(self.compared(mode), ("ratio",))

    def shown(self, mode: str) -> str:
        """The ratio as text, with `~` if it is imprecise."""
        mark = noise.IMPRECISE_MARK if at(self.compared(mode), ("status",)) == "imprecise" else ""
        return shown(self.ratio(mode), mark)


@dataclass(frozen=True)
class Peers:
    """The records of all peers, read once: entries with figures, entries without (and why), and unreadable files."""

    found: tuple[Beside, ...] = ()
    without: tuple[tuple[str, str, str, str, str], ...] = ()  # peer, case, cache, status, reason
    records: tuple[schema.Peers, ...] = ()
    problems: tuple[str, ...] = ()

    def fastest(self, case: str, cache: str, device: str | None) -> Beside | None:
        """The fastest peer on a cache, among those measured on the given device."""
        wanted = (case, cache, device)
        candidates = [one for one in self.found if (one.case, one.cache, one.device) == wanted]
        return min(candidates, key=lambda one: one.us, default=None)

    def in_any_type(self, best: Beside) -> list[Beside]:
        """The peers on the cache and shape of `best`, in every type that its device measured."""
        where = (best.cache, best.device, _shape(best))
        return [one for one in self.found if (one.cache, one.device, _shape(one)) == where]


def load(results: Path, cases: dict[str, AnyCase | None], limits: Noise) -> Peers:
    """Every `peers_*.json` of a results folder, judged by the noise limits.

    cases: canonical content by id; entries of other cases are ignored.
    """
    found, without, read, problems = [], [], [], []
    for path in sorted(results.glob("peers_*.json")):
        record, problem = folder.optional(path, schema.Peers)
        if problem:
            problems.append(problem)
            continue
        record = as_judged(record, limits)
        read.append(record)
        for entry in record.cases:
            planned = cases.get(entry.case.id)
            if planned is None or for_peers(planned, record.settings) != entry.case:
                continue
            for cache in CACHES:
                where, found_in = (record.peer, entry.case.id, cache), getattr(entry, cache)
                if found_in.status in noise.PUBLISHED:
                    found.append(Beside(*where, found_in, record.device.name, planned))
                else:
                    without.append((*where, found_in.status, found_in.reason))
    return Peers(tuple(found), tuple(without), tuple(read), tuple(problems))


def tables_of(peers: Peers, cases: list[str], device: str | None) -> dict[str, Any]:
    """For each cache, ours and the fastest peer of each case; then all peers, by the names in report.md.jinja.

    cases: ids in order. device: name of this run's device; figures of other devices are marked.
    """
    order = {case: place for place, case in enumerate(cases)}
    several = len({one.content.dtype for one in peers.found}) > 1
    any_type = several or any(record.backend == "cpu" for record in peers.records)
    columns = BEST | ({"peer in any type, us": lambda best: _in_any_type(peers, best)} if any_type else {})
    best = {
        title: tables.of(filter(None, (peers.fastest(case, cache, device) for case in cases)), columns)
        for cache, title in CACHES.items()
    }
    timed = {one.peer for one in peers.found}  # and all of the user's files, to show which versions were tried
    return {
        "best": best,
        "any_type": any_type,
        "each": _each(sorted(peers.found, key=lambda one: (order[one.case], one.cache != "full", one.us)), device),
        "without": _without(peers),
        "libraries": tables.of((one for one in peers.records if one.peer in timed or _read(one)), LIBRARIES),
    }


def shown(ratio: Interval | None, mark: str = "") -> str:
    """A ratio with its interval and a mark, and a word if ours is not faster."""
    if ratio is None:
        return NOTHING
    word = " (slower)" if ratio.high < 1 else " (same)" if ratio.low <= 1 else ""
    return times_interval(ratio) + mark + word


def _shape(one: Beside) -> AnyCase:
    """The case without its name and types."""
    without = {"id": "", "dtype": "", "cache_dtype": "", "key_dtype": MISSING, "value_dtype": MISSING}
    return one.content.model_copy(update=without)


def _in_any_type(peers: Peers, best: Beside) -> str:
    """The fastest peer on the shape in any type, with its time over ours; or the only type."""
    found = peers.in_any_type(best)
    if len({one.content.dtype for one in found}) == 1:
        return f"{best.content.dtype} only"
    one = min(found, key=lambda one: one.us)
    ratio = one.us / best.compared("plain").ours.median_us
    return f"{one.content.dtype} `{one.peer}`: {_us(one.us)} ({times(ratio)} ours)"


def _us(us: float | None) -> str:
    return NOTHING if us is None else microseconds(us)


BEST: dict[str, Callable[[Beside], str]] = {
    "case": lambda best: f"`{best.case}`",
    "ours, us": lambda best: _us(at(best.compared("plain"), ("ours", "median_us"))),
    "ours dependent, us": lambda best: _us(at(best.compared("dependent"), ("ours", "median_us"))),
    "fastest peer": lambda best: f"`{best.peer}`",
    "peer, us": lambda best: _us(best.us),
    "ours / peer": lambda best: best.shown("plain"),
    "dependent / peer": lambda best: best.shown("dependent"),
}


def _each(found: list[Beside], device: str | None) -> str:
    columns = {
        "case": lambda one: f"`{one.case}`",
        "cache": lambda one: one.cache,
        "peer": lambda one: f"`{one.peer}`" + (f" ‡ {escape(one.device)}" if one.device != device else ""),
        "peer, us": lambda one: _us(one.us),
        "ours / peer": lambda one: one.shown("plain"),
        "dependent / peer": lambda one: one.shown("dependent"),
        "relative error": lambda one: f"{one.entry.correctness.relative_error:.1e}",
        "layers": lambda one: f"{one.entry.resolved.layers}, {'cold' if one.entry.resolved.cold else 'warm'}",
    }
    return tables.of(found, columns)


def _without(peers: Peers) -> str:
    """One row per peer, status and reason; a reason that applies to both caches of a case appears once."""
    full = {(peer, case, status, reason) for peer, case, cache, status, reason in peers.without if cache == "full"}
    grouped: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for peer, case, cache, status, reason in peers.without:
        if cache == "full" or (peer, case, status, reason) not in full:
            grouped[peer, status, reason].append(case if cache == "full" else f"{case} (elastic)")
    columns = {
        "peer": lambda key: f"`{key[0]}`",
        "status": lambda key: key[1],
        "reason": lambda key: escape(key[2], LONGEST_REASON),
        "cases": lambda key: escape(", ".join(grouped[key]), LONGEST_REASON),
    }
    return tables.of(grouped, columns)


def _read(record: schema.Peers) -> bool:
    """Whether the peer is a readable file of the user."""
    return record.file is not None and record.file.sha256 is not None


def _library(record: schema.Peers) -> str:
    library = f"{record.library.name} {record.library.version or NOTHING}"
    return f"{record.file.path} (sha256 {record.file.sha256[:12]}), {library}" if _read(record) else library


LIBRARIES: dict[str, Callable[[schema.Peers], str]] = {
    "peer": lambda record: f"`{record.peer}`",
    "library": lambda record: escape(_library(record)),
    "one launch is": lambda record: escape(record.times),
}
