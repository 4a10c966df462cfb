"""Compares our kernels with those of other libraries: the fastest peer of each case, and the ratio to ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elastickv.judge import folder, noise
from elastickv.peers.record import JudgedComparison, as_judged, for_peers
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, microseconds, times_interval
from elastickv.schemas import peers as schema
from elastickv.schemas.case import AnyCase
from elastickv.schemas.config import Noise
from elastickv.schemas.parts import Interval

CACHES = {"full": "Full cache", "elastic": "The same elastic slots"}
MODES = ("plain", "dependent")
LONGEST_REASON = 300


@dataclass(frozen=True)
class Beside:
    """One peer on one cache of one case, with judged figures. device: name of the device that measured both."""

    peer: str
    case: str
    cache: str
    entry: schema.Cache
    device: str

    @property
    def us(self) -> float:
        """The peer's median, measured together with our plain launches."""
        return self.entry.ours.plain.peer.median_us

    def ours_us(self, mode: str) -> float | None:
        """Our median, measured together with this peer."""
        compared = self._compared(mode)
        return compared.ours.median_us if compared else None

    def ratio(self, mode: str) -> Interval | None:
        """Peer / ours with its interval: above 1, ours is faster. None if the device lacks this launch mode."""
        compared = self._compared(mode)
        return compared.ratio if compared else None

    def shown(self, mode: str) -> str:
        """The ratio as text, with `~` if it is imprecise."""
        compared = self._compared(mode)
        mark = noise.IMPRECISE_MARK if compared and compared.status == "imprecise" else ""
        return shown(self.ratio(mode), mark)

    def _compared(self, mode: str) -> JudgedComparison | None:
        return getattr(self.entry.ours, mode)


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
                    found.append(Beside(*where, found_in, record.device.name))
                else:
                    without.append((*where, found_in.status, found_in.reason))
    return Peers(tuple(found), tuple(without), tuple(read), tuple(problems))


def section(peers: Peers, cases: list[str], device: str | None) -> str:
    """For each case, ours and the fastest peer; then all peers. Empty if no peer is enabled.

    cases: ids in order. device: name of this run's device; figures of other devices are marked.
    """
    if not peers.records and not peers.problems:
        return ""
    parts = ["## Comparison with other libraries' kernels", NOTE]
    for cache, title in CACHES.items():
        rows = [_row(best) for best in (peers.fastest(case, cache, device) for case in cases) if best]
        if rows:
            parts += [f"### {title}", table(rows, HEADERS)]
    order = {case: place for place, case in enumerate(cases)}
    found = sorted(peers.found, key=lambda one: (order[one.case], one.cache != "full", one.us))
    each = [_each(one, one.device != device) for one in found]
    if each:
        parts += ["### Every peer", table(each, EACH_HEADERS)]
    else:
        parts.append("No peer has figures.")
    without = _without(peers)
    if without:
        parts += ["### Peers without figures", table(without, ["peer", "status", "reason", "cases"])]
    timed = {one.peer for one in peers.found}  # and all of the user's files, to show which versions were tried
    libraries = [_library(record) for record in peers.records if record.peer in timed or _read(record)]
    if libraries:
        parts += ["### What is timed", table(libraries, ["peer", "library", "one launch is"])]
    return "\n\n".join([*parts, *map(escape, peers.problems)])


NOTE = """*Ours / peer* is the speedup of our kernel over the peer: the median of paired ratios with its interval; below
1x, ours is slower. ~: imprecise, the interval is widened by the deviation of the control (ours compared with itself)
from 1. Both kernels read the same values, pass the same check against float64, rotate over the same cold caches and are
timed in turn in one process, on a GPU inside CUDA graphs. *Dependent*: ours uses programmatic dependent launch, the
peer the launches of its library."""
HEADERS = ["case", "ours, us", "ours dependent, us", "fastest peer", "peer, us", "ours / peer", "dependent / peer"]
EACH_HEADERS = ["case", "cache", "peer", "peer, us", "ours / peer", "dependent / peer", "relative error", "layers"]


def verdict_of(ratio: Interval) -> str:
    """`faster`, `slower`, or `same` if the interval contains 1."""
    if ratio.low > 1:
        return "faster"
    return "slower" if ratio.high < 1 else "same"


def shown(ratio: Interval | None, mark: str = "") -> str:
    """A ratio with its interval and a mark, and a word if ours is not faster."""
    if ratio is None:
        return NOTHING
    verdict = verdict_of(ratio)
    return times_interval(ratio) + mark + ("" if verdict == "faster" else f" ({verdict})")


def _row(best: Beside) -> list[str]:
    ours = [best.ours_us(mode) for mode in MODES]
    return [
        f"`{best.case}`",
        *(NOTHING if us is None else microseconds(us) for us in ours),
        f"`{best.peer}`",
        microseconds(best.us),
        *(best.shown(mode) for mode in MODES),
    ]


def _each(one: Beside, foreign: bool) -> list[str]:
    used = one.entry.resolved
    mark = f" ‡ {escape(one.device)}" if foreign else ""
    return [
        f"`{one.case}`",
        one.cache,
        f"`{one.peer}`{mark}",
        microseconds(one.us),
        *(one.shown(mode) for mode in MODES),
        f"{one.entry.correctness.relative_error:.1e}",
        f"{used.layers}, {'cold' if used.cold else 'warm'}",
    ]


def _without(peers: Peers) -> list[list[str]]:
    """One row per peer, status and reason; a reason that applies to both caches of a case appears once."""
    full = {(peer, case, status, reason) for peer, case, cache, status, reason in peers.without if cache == "full"}
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for peer, case, cache, status, reason in peers.without:
        if cache == "full" or (peer, case, status, reason) not in full:
            grouped.setdefault((peer, status, reason), []).append(case if cache == "full" else f"{case} (elastic)")
    return [
        [f"`{peer}`", status, escape(reason, LONGEST_REASON), escape(", ".join(cases), LONGEST_REASON)]
        for (peer, status, reason), cases in grouped.items()
    ]


def _read(record: schema.Peers) -> bool:
    """Whether the peer is a readable file of the user."""
    return record.file is not None and record.file.sha256 is not None


def _library(record: schema.Peers) -> list[str]:
    library = f"{record.library.name} {record.library.version or NOTHING}"
    if _read(record):
        library = f"{record.file.path} (sha256 {record.file.sha256[:12]}), {library}"
    return [f"`{record.peer}`", escape(library), escape(record.times)]
