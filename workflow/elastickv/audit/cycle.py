"""The inference cycle of a record, computed again from the seconds of its samples."""

from __future__ import annotations

import statistics
from typing import Any

from elastickv import kinds
from elastickv.audit import intervals, policy, processes
from elastickv.audit.finding import About

ARMS = ("full", "elastic")


def check(about: About, record: dict[str, Any]) -> None:
    """Rates and speedup; a record has a cycle if and only if the case requires one."""
    case, cycle = record["case"], record["inference_cycle"]
    requested = kinds.of(case["workload"]).CACHE and case["measure"]["decode_tokens"] > 0
    stated = "a cycle" if cycle else "null"
    if (
        not about.require(bool(cycle) == requested, "inference_cycle", stated, "a cycle" if requested else "null")
        or not cycle
    ):
        return
    about.same("inference_cycle.decode_tokens", cycle["decode_tokens"], case["measure"]["decode_tokens"])
    about.same("inference_cycle.layers", cycle["layers"], record["resolved"]["layers"])
    if "samples" not in cycle:
        about.fault("inference_cycle.samples", "nothing", "the seconds that rates and speedup are made of")
        return
    tokens = cycle["tokens_per_sample"]
    groups = {cycle["decode_tokens"], min(policy.period(case), cycle["decode_tokens"])}
    about.require(tokens in groups, "inference_cycle.tokens_per_sample", tokens, f"one of {sorted(groups)}")
    seconds = {arm: cycle["samples"][f"{arm}_seconds"] for arm in ARMS}
    for arm, series in seconds.items():
        rate = statistics.median([tokens * cycle["layers"] / time for time in series])
        about.same(f"inference_cycle.layer_steps_per_second.{arm}", cycle["layer_steps_per_second"][arm], rate)
    for arm, microseconds in cycle.get("append_us", {}).items():
        series = cycle["samples"].get(f"{arm}_append_seconds") or [0]
        alone = statistics.median(series) * 1e6 / (tokens * cycle["layers"])
        about.same(f"inference_cycle.append_us.{arm}", microseconds, alone)
    confidence, own = case["measure"]["confidence"], processes.own(record, "cycle_speedup", cycle["speedup"])
    pair = (seconds["full"], seconds["elastic"])
    intervals.of_ratios(about, "inference_cycle.speedup", pair, own, confidence)
