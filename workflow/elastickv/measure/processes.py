"""One case measured by several processes: what they answered, made into the answer of one. Pure.

What changes from process to process and not within one, no interval of one process holds: where buffers lie, which
clocks a process met. So the published interval is widened to the spread of all of them where that is wider.
"""

from __future__ import annotations

import statistics
from typing import Any

Response = dict[str, Any]
MEASURED = ("ok", "noisy")


def count(case: dict[str, Any]) -> int:
    """Processes that a canonical case asks for; older cases do not say, and mean one."""
    return case["measure"]["processes"]


def stopped_by(response: Response, index: int, of: int) -> Response | None:
    """The answer for the whole measurement, if that of process `index` (from 0) is no measurement; else None."""
    place = f"process {index + 1} of {of}: "
    if "fields" not in response:
        return {**response, "reason": place + response["reason"]}
    fields = response["fields"]
    if fields["status"] in MEASURED:
        return None
    return {**response, "fields": {**fields, "reason": place + fields["reason"]}}


def combine(responses: list[Response]) -> Response:
    """The answer of the process with the median speedup, its intervals widened to the spread of all processes.

    Of those that are ok where they are more than half, else of all, and then it is noisy: process by process the
    machine was. `processes` in its fields keeps what every one found. With an even number the lower median is taken.
    """
    fields = [response["fields"] for response in responses]
    runs = [_run(one) for one in fields]
    speedups = {index: run["speedup"]["value"] for index, run in enumerate(runs) if run["speedup"]}
    ok = {index: speedups[index] for index, run in enumerate(runs) if run["status"] == "ok"}
    quiet = 2 * len(ok) > len(runs)
    if not speedups:
        return {**responses[0], "fields": {**fields[0], "reason": f"in every process: {fields[0]['reason']}"}}
    candidates = ok if quiet else speedups
    middle = statistics.median_low(candidates.values())
    published = next(index for index, value in candidates.items() if value == middle)
    spread = {"low": min(speedups.values()), "high": max(speedups.values())}
    made = {
        **_widened(fields[published], runs),
        "processes": {"published": published, "spread": spread, "runs": runs},
    }
    if not quiet:
        made |= {"status": "noisy", "reason": _noise(runs)}
    return {**responses[published], "fields": made}


def _run(fields: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one process: enough to make its intervals again."""
    measured, cycle = fields.get("statistics"), fields.get("inference_cycle")
    return {
        "status": fields["status"],
        "reason": fields["reason"],
        "speedup": measured and measured["speedup"],
        "controls": measured and measured["controls"],
        "cycle_speedup": cycle and cycle["speedup"],
        **{f"{arm}_us": fields["samples"][f"{arm}_us"] for arm in ("full", "elastic", "full_again")},
    }


def _noise(runs: list[dict[str, Any]]) -> str:
    noisy = [run["reason"] for run in runs if run["status"] == "noisy"]
    return f"{len(noisy)} of {len(runs)} processes were noisy; the first: {noisy[0]}"


def _widened(fields: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The published process's fields, the speedups of attention and cycle widened."""
    made = {**fields, "statistics": {**fields["statistics"]}}
    made["statistics"]["speedup"] = widen(fields["statistics"]["speedup"], [run["speedup"] for run in runs])
    if fields.get("inference_cycle"):
        cycle = fields["inference_cycle"]
        made["inference_cycle"] = {**cycle, "speedup": widen(cycle["speedup"], [run["cycle_speedup"] for run in runs])}
    return made


def widen(interval: dict[str, Any], found: list[dict[str, Any] | None]) -> dict[str, Any]:
    """An interval that also holds the value of every process (None: it had none); its method says so if it grew."""
    values = [one["value"] for one in found if one]
    low, high = min([interval["low"], *values]), max([interval["high"], *values])
    if (low, high) == (interval["low"], interval["high"]):
        return interval
    method = f"{interval['method']}; widened to the spread of {len(found)} processes"
    return {**interval, "low": low, "high": high, "method": method}
