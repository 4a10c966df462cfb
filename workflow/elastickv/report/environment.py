"""Sections of the report about what the numbers were taken on and beside: machine, builds, ceilings, baselines."""

from __future__ import annotations

import json
import shlex
from typing import Any

from elastickv.cache import bytes_moved
from elastickv.report.inputs import Baseline, Inputs
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, percent, size

LONGEST_COMMAND = 600
RATES = ("read_gbps", "copy_gbps")
CURVE_NOTE = """The pure pass is this case's own: its reads and writes, launched as it is, timed between its samples.
The curve is of reads alone, in another process; between its sizes, by time. A case that also writes stays below it."""
CURVE_FIGURE = "![Bandwidth by size, and the cases](figures/ceilings.png)"


def machine(inputs: Inputs) -> str:
    """Device facts and software, as this run's records name them."""
    rows = device_rows(inputs.device or {})
    measured = next((case.record for case in inputs.cases if case.record and not inputs.is_foreign(case)), None)
    software = (inputs.ceilings or measured or {}).get("software", {})
    rows += [[escape(name), escape(version)] for name, version in software.items() if version]
    return f"## Machine\n\n{table(rows, ['', ''])}" if rows else "## Machine\n\nNo record names a device."


def device_rows(device: dict[str, Any]) -> list[list[str]]:
    """Facts of a device as rows; what it does not tell (`driver`: null) stands with its reason (`driver_reason`)."""
    facts = {key: value for key, value in device.items() if not key.endswith("_reason")}
    return [[escape(key.replace("_", " ")), _fact(key, value, device)] for key, value in facts.items()]


def _fact(key: str, value: Any, device: dict[str, Any]) -> str:
    if value is None:
        return f"{NOTHING} {escape(device.get(f'{key}_reason') or '')}".rstrip()
    if key.endswith("_bytes") and isinstance(value, int | float):
        return size(value)
    return escape(", ".join(map(str, value)) if isinstance(value, list) else value)


def builds(inputs: Inputs) -> str:
    """Which kernels the records ran, how these were compiled, and from which sources and by which command."""
    used: dict[tuple[str, str], dict[str, Any]] = {}
    for case in inputs.cases:
        if case.record and case.record["build"] and not inputs.is_foreign(case):
            build = case.record["build"]
            used.setdefault((case.record["resolved"]["backend"], build["fingerprint"], build["sha256"]), build)
    if not used:
        return ""
    rows = [
        [backend, f"`{fingerprint[:16]}`", f"`{binary[:16]}`", escape(_compiled(build))]
        for (backend, fingerprint, binary), build in sorted(used.items())
    ]
    headers = ["backend", "fingerprint of the kernels", "sha256 of the binary", "compiled"]
    return f"## Build\n\n{table(rows, headers)}\n\n{_provenance(inputs)}"


def _compiled(build: dict[str, Any]) -> str:
    """The parts of a binary, those together that were compiled alike but for the target."""
    alike: dict[str, list[str]] = {}
    for part in build["compiled"]:
        alike.setdefault(f"by {part['compiler']} {part['version']}", []).append(part["target"])
    return "; ".join(f"{', '.join(targets)} {how}" for how, targets in alike.items())


def _provenance(inputs: Inputs) -> str:
    """Commit, sources and command of every record, a row for each that differs."""
    told = {}
    for case in inputs.cases:
        if case.record and case.record["build"]:
            about = case.record["build"]["provenance"]
            told.setdefault(json.dumps(about), (about, []))[1].append(case.id)
    rows = [
        [
            f"`{about['commit'][:12]}`{' with changes' if about['dirty'] else ''}" if about["commit"] else NOTHING,
            f"`{about['sources'][:16]}`",
            escape(shlex.join(about["command"]), LONGEST_COMMAND),
            str(len(cases)),
        ]
        for about, cases in told.values()
    ]
    return table(rows, ["commit", "sha256 of the sources", "command", "cases"])


def ceilings(inputs: Inputs) -> str:
    """Read and copy bandwidth by size."""
    record = inputs.ceilings
    if record is None or record["status"] != "ok":
        why = inputs.ceilings_problem or (record["reason"] if record else "no ceilings.json")
        return f"## Ceilings\n\nNone: {escape(why)}."
    dependent = any("dependent" in point for point in record["points"])
    headers = ["bytes of a pass", "read, GB/s", "copy, GB/s"]
    rows = [_point_row(point, dependent) for point in record["points"]]
    plateau = ["**plateau**", f"**{record['read_gbps']:,.0f}**", f"**{record['copy_gbps']:,.0f}**"]
    if dependent:
        headers += ["read, dependent launches", "copy, dependent launches"]
        plateau += ["", ""]
    parts = ["## Ceilings", table([*rows, plateau], headers), *_beside_the_curve(inputs, record["points"])]
    return "\n\n".join(parts)


def _point_row(point: dict[str, Any], dependent: bool) -> list[str]:
    """A size of the curve; marked where its launches visited too few places to flush the cache."""
    rates = [point[kind] for kind in RATES]
    beside = [point.get("dependent", {}).get(kind) for kind in RATES] if dependent else []
    name = size(point["bytes"]) + ("" if point.get("cold", True) else " (not cold)")
    return [name, *(NOTHING if rate is None else f"{rate['value']:,.0f}" for rate in rates + beside)]


def _beside_the_curve(inputs: Inputs, points: list[dict[str, Any]]) -> list[str]:
    """What the cases reach with their bytes, beside what a pure pass does with as many; empty without cold cases."""
    rows = []
    for case in inputs.own:
        used = case.record["resolved"]
        for arm, name in (("full", "full"), ("elastic", "elastic")):
            moved, achieved = case.record["bytes"][arm], case.record["efficiency"][arm].get("achieved_gbps")
            if not used["cold"] or achieved is None:
                continue
            pure = bytes_moved.gbps(moved, case.record["bytes"]["reachable"][f"{arm}_us"])
            curve = bytes_moved.curve_gbps(curve_of(points, used["launch"]), moved)
            share = [NOTHING, NOTHING] if curve is None else [f"{curve:,.0f}", percent(achieved / curve)]
            rows.append([f"`{case.id}`", name, size(moved), f"{achieved:,.0f}", f"{pure:,.0f}", *share])
    headers = ["case", "cache", "bytes", "achieved, GB/s", "pure pass of the same bytes", "read curve", "share of it"]
    if not rows:
        return []
    return ["### What the cases reach with their bytes", table(rows, headers), CURVE_NOTE, CURVE_FIGURE]


def curve_of(points: list[dict[str, Any]], launch: str) -> list[tuple[int, float]]:
    """The read curve as (bytes, GB/s), of launches like a case's; empty where the record (an older one) has none."""
    if launch == "dependent":
        points = [{**point["dependent"], "bytes": point["bytes"]} for point in points if "dependent" in point]
    return [(point["bytes"], point["read_gbps"]["value"]) for point in points]


def baselines(inputs: Inputs) -> str:
    """Language-model engines with their own full cache; empty when none is enabled."""
    if not inputs.baselines:
        return ""
    headers = ["engine", "model", "device", "dtype", "prefill, tokens/s", "decode, tokens/s", "first token, ms"]
    headers += ["perplexity", "peak memory", "status"]
    rows = [_baseline_row(baseline) for baseline in inputs.baselines]
    notes = [_baseline_note(baseline) for baseline in inputs.baselines if baseline.record]
    return "\n\n".join(["## Language-model baselines", table(rows, headers), *filter(None, notes), *_caches(inputs)])


def _caches(inputs: Inputs) -> list[str]:
    """Decode rates by cache implementation, where an engine has several."""
    rows = [
        [
            baseline.engine,
            escape(entry["name"]),
            _rate(entry["decode_tokens_per_second"]) if entry["decode_tokens_per_second"] else NOTHING,
            f"{entry['equal_tokens']} of {entry['tokens']}" if "tokens" in entry else NOTHING,
            escape(entry["reason"] or ""),
        ]
        for baseline in inputs.baselines
        if baseline.record and baseline.record["status"] == "ok"
        for entry in baseline.record.get("caches", [])
    ]
    headers = ["engine", "cache", "decode, tokens/s", "tokens as the first cache's", "why not"]
    if not rows:
        return []
    note = "Of the caches beside the first, a few short runs; how many tokens they decode before one differs."
    return ["### Cache implementations", table(rows, headers), note]


def _baseline_note(baseline: Baseline) -> str:
    """How a baseline's figures came about; empty when there are none."""
    record = baseline.record
    if record["status"] != "ok" or None in (record.get("prompt_tokens"), record.get("decode_tokens")):
        return ""
    decode = record["decode_tokens_per_second"]
    facts = [f"a prompt of {record['prompt_tokens']:,} tokens, then {record['decode_tokens']:,} one by one"]
    facts += [f"medians of {len(decode['samples'])} repetitions"]
    named = {"attention": record.get("attention"), "cache": record.get("cache"), "threads": record.get("threads")}
    facts += [f"{name} {escape(value)}" for name, value in named.items() if value]
    text = f" Perplexity of {escape(record['text']['source'])}." if "text" in record else ""
    return f"{escape(baseline.engine)}: {'; '.join(facts)}.{text}"


def _baseline_row(baseline: Baseline) -> list[str]:
    record = baseline.record
    if record is None:
        return [baseline.engine, *[NOTHING] * 8, f"failed: {escape(baseline.problem)}"]
    about = [escape(record["model"]["name"]), escape((record["device"] or {}).get("name") or NOTHING)]
    status = record["status"] if record["reason"] is None else f"{record['status']}: {escape(record['reason'])}"
    if record["status"] not in ("ok", "noisy"):
        return [baseline.engine, *about, *[NOTHING] * 6, status]
    rates = [_rate(record[key]) for key in ("prefill_tokens_per_second", "decode_tokens_per_second")]
    rates.append(_rate(record["time_to_first_token_ms"]))
    if record["status"] == "noisy":
        rates = [NOTHING] * len(rates)
    perplexity = f"{record['perplexity']:.2f}"
    memory = NOTHING if record["peak_memory_bytes"] is None else size(record["peak_memory_bytes"])
    return [baseline.engine, *about, escape(record["dtype"]), *rates, perplexity, memory, status]


def _rate(rate: dict[str, Any]) -> str:
    return f"{rate['value']:,.1f} [{rate['low']:,.1f}, {rate['high']:,.1f}]"
