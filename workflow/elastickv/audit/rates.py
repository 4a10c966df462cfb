"""Records of rates with their raw samples: `ceilings.json` and the language-model baselines."""

from __future__ import annotations

import datetime
from typing import Any

from elastickv.audit import intervals
from elastickv.audit.finding import About

CONFIDENCE = 0.99
COLD = 4  # times the last-level cache that the places of a point have to cover
EXACT, ROUNDED = 0.001, 0.35  # tolerances of a baseline's self-check: float32 with such a cache, and all others
LOSSLESS = ("dynamic", "static")
RATES = ("prefill_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_ms")
KINDS = ("read_gbps", "copy_gbps")


def times(about: About, record: dict[str, Any]) -> None:
    """A record ends after it starts."""
    with about.recomputing("started"):
        began, ended = (datetime.datetime.fromisoformat(record[key]) for key in ("started", "ended"))
        about.require(began <= ended, "ended", record["ended"], f"not before {record['started']}")


def _rate(about: About, where: str, found: dict[str, Any]) -> None:
    """Median and interval of a rate's samples; a point of the ceilings holds no more than value and bounds."""
    with about.recomputing(where):
        check = intervals.check if "method" in found else intervals.plain
        check(about, where, found["samples"], found, CONFIDENCE)


def ceilings(about: About, record: dict[str, Any]) -> None:
    """The curve by size and its plateau."""
    times(about, record)
    points = record["points"]
    sizes = [point["bytes"] for point in points]
    about.require(sizes == sorted(set(sizes)), "points", f"sizes {sizes}", "ascending sizes")
    for index, point in enumerate(points):
        for kind in KINDS:
            _rate(about, f"points.{index}.{kind}", point[kind])
            if "dependent" in point:
                _rate(about, f"points.{index}.dependent.{kind}", point["dependent"][kind])
        cache = record["device"].get("last_level_cache_bytes")
        if cache and "cold" in point and "layers" in point:
            covered = point["layers"] * point["bytes"] >= COLD * cache
            about.same(f"points.{index}.cold", point["cold"], covered)
    if points:
        for kind in KINDS:
            about.same(kind, record[kind], points[-1][kind]["value"])


def baseline(about: About, record: dict[str, Any]) -> None:
    """Rates of a language-model baseline, and those of its cache implementations."""
    times(about, record)
    for name in RATES:
        if record.get(name):
            _rate(about, name, record[name])
    caches = record.get("caches") or []
    for index, cache in enumerate(caches):
        found = cache["decode_tokens_per_second"]
        if found:
            _rate(about, f"caches.{index}.decode_tokens_per_second", found)
        equal, tokens = cache.get("equal_tokens", 0), cache.get("tokens", 0)
        about.require(equal <= tokens, f"caches.{index}.equal_tokens", equal, f"at most {tokens}")
    if caches and caches[0]["decode_tokens_per_second"]:
        first = "caches.0.decode_tokens_per_second"
        about.same(first, caches[0]["decode_tokens_per_second"], record["decode_tokens_per_second"])
    if record["status"] == "ok":
        exact = record["dtype"] == "float32" and record.get("cache") in LOSSLESS
        _self_check(about, record["self_check"], EXACT if exact else ROUNDED)


def _self_check(about: About, found: dict[str, Any], tolerance: float) -> None:
    """Only models whose calls agree with one another have figures."""
    about.same("self_check.tolerance", found["tolerance"], tolerance)
    for name in ("largest_difference", "causality_difference"):
        about.require(found[name] <= tolerance, f"self_check.{name}", found[name], f"at most {tolerance}")
