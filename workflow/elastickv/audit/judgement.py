"""Judges a record from the definitions (docs/reading-a-result.md) and thresholds, independently of `verdict.py`.

Covers status, verdict, mark and figures; `remade.py` checks the text of the reasons.
"""

from __future__ import annotations

from typing import Any

from elastickv.audit import noise

CRITERIA = ("speedup", "sustained", "cv", "memory_efficiency", "roofline")
SHARES = {"memory_efficiency": "memory", "roofline": "roofline"}  # criterion -> its name in `efficiency`
MARKS = {"excellent": "⭐", "good": "✓", "same": "=", "slower": "–", "invalid": "✗", "skipped": "·"}
NOT_RUN = ("unsupported", "out_of_memory")
IMPRECISE = "~"

Criterion = dict[str, Any]


def holds(record: dict[str, Any]) -> bool:
    """Whether the figures of a record (after `noise.judged`) may be published.

    Its controls and bytes must allow it, and its answers be within tolerance.
    """
    if record["status"] not in ("ok", "imprecise"):
        return False
    speedup = record["statistics"]["speedup"]
    right = all(answer["relative_error"] <= answer["tolerance"] for answer in record["correctness"].values())
    return right and speedup["low"] <= speedup["high"]


def judge(record: dict[str, Any], thresholds: dict[str, Any]) -> dict[str, Any]:
    """The expected entry of a record in `verdicts.json`, without the reasons."""
    record = noise.judged(record, thresholds["noise"])
    shown = holds(record)
    limits = thresholds | {"sustained": thresholds["speedup"]}
    criteria = {name: _blank(limits[name]) for name in CRITERIA}
    if shown:
        criteria |= {name: _share(record, share, thresholds[name]) for name, share in SHARES.items()}
        criteria |= {"speedup": _speedup(record, thresholds["speedup"]), "cv": _cv(record, thresholds["cv"])}
        criteria["sustained"] = _sustained(record, thresholds["speedup"])
        verdict = _ladder(record, criteria, thresholds["excellent"])
    else:
        verdict = "skipped" if record["status"] in NOT_RUN else "invalid"
    moved = record.get("bytes") or {}
    mark = _golden_mark(criteria) if verdict == "golden_ticket" else MARKS[verdict]
    return {
        "case": record["case"]["id"],
        "status": record["status"],
        "verdict": verdict,
        "mark": mark + (IMPRECISE if shown and record["status"] == "imprecise" else ""),
        "device": (record.get("device") or {}).get("name"),
        "byte_ceiling": moved.get("ceiling"),
        "reachable_ceiling": moved.get("reachable_ceiling"),
        "criteria": criteria,
    }


def without_record(case: str, thresholds: dict[str, Any]) -> dict[str, Any]:
    """The expected entry of a case without a readable record."""
    return judge({"case": {"id": case}, "status": "failed"}, thresholds)


def _nothing_saved(record: dict[str, Any]) -> bool:
    return record["bytes"]["elastic"] >= record["bytes"]["full"]


def _golden_mark(criteria: dict[str, Criterion]) -> str:
    return "✅☆" if criteria["roofline"]["outcome"] == "pass" else "✅"


def _blank(threshold: float) -> Criterion:
    return {"value": None, "low": None, "high": None, "threshold": threshold, "outcome": "not_applicable"}


def _at_least(value: float, low: float, high: float, threshold: float, most: float | None = None) -> Criterion:
    """Judges an interval against a minimum. most: the largest possible value, if there is one."""
    if most is not None and most < threshold:
        outcome = "unreachable"
    elif low >= threshold:
        outcome = "pass"
    else:
        outcome = "fail" if high < threshold else "ambiguous"
    return {"value": value, "low": low, "high": high, "threshold": threshold, "outcome": outcome}


def _speedup(record: dict[str, Any], threshold: float) -> Criterion:
    found = record["statistics"]["speedup"]
    return _at_least(found["value"], found["low"], found["high"], threshold, record["bytes"]["ceiling"])


def _sustained(record: dict[str, Any], threshold: float) -> Criterion:
    """The speedup of steady work; none where it was not measured, or exceeds what the bytes allow."""
    if record["resolved"]["backend"] == "cpu":
        return _blank(threshold)
    found = sustained(record)
    if found is None:
        return _blank(threshold) | {"outcome": "not_measured"}
    return _at_least(found["value"], found["low"], found["high"], threshold, record["bytes"]["ceiling"])


def sustained(record: dict[str, Any]) -> dict[str, Any] | None:
    """The speedup of steady work, if there is one within what the bytes allow."""
    found = ((record.get("statistics") or {}).get("sustained") or {}).get("speedup")
    beyond = found and found["low"] > record["bytes"]["ceiling"] and not _nothing_saved(record)
    return None if beyond else found


def _cv(record: dict[str, Any], threshold: float) -> Criterion:
    several = record.get("processes")
    value = several["cv"] if several else record["statistics"]["elastic"]["cv"]
    return _blank(threshold) | {"value": value, "outcome": "pass" if value <= threshold else "fail"}


def _share(record: dict[str, Any], share: str, threshold: float) -> Criterion:
    """The elastic arm's share of the peak or of the read ceiling; none where the caches were not cold."""
    found = record["efficiency"]["elastic"]
    value, low, high = (found[name] for name in (share, f"{share}_low", f"{share}_high"))
    if not record["resolved"]["cold"] or None in (value, low, high):
        return _blank(threshold)
    return _at_least(value, low, high, threshold)


def _ladder(record: dict[str, Any], criteria: dict[str, Criterion], excellent: float) -> str:
    speedup = record["statistics"]["speedup"]
    if speedup["high"] < 1 and not _nothing_saved(record):
        return "slower"
    if speedup["low"] <= 1 or _nothing_saved(record):
        return "same"
    if all(criteria[name]["outcome"] == "pass" for name in CRITERIA if name != "roofline"):
        return "golden_ticket"
    return "excellent" if speedup["low"] >= excellent else "good"
