"""Sections of the report about the environment of the measurements: machine, builds, ceilings, baselines."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

from elastickv.cache import bytes_moved
from elastickv.report.inputs import Baseline, Inputs
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, percent, size
from elastickv.schemas.base import given
from elastickv.schemas.ceilings import Pair, Point
from elastickv.schemas.parts import BuildUsed, Device, Rate
from elastickv.schemas.provenance import Provenance

LONGEST_COMMAND = 600
CURVE_NOTE = """The pure pass has the reads and writes of the case, is launched in the same way, and was timed between
the samples of the case. The curve has only reads, was measured by another process, and is interpolated in time between
its sizes. A case that also writes stays below the curve."""
CURVE_FIGURE = "![Bandwidth by size, and the cases](figures/ceilings.png)"


def machine(inputs: Inputs) -> str:
    """Device facts and software versions from the records of this run."""
    rows = device_rows(inputs.device) if inputs.device else []
    measured = next((case.record for case in inputs.cases if case.record and not inputs.is_foreign(case)), None)
    record = inputs.ceilings or measured
    rows += [[escape(name), escape(version)] for name, version in (record.software if record else ()) if version]
    return f"## Machine\n\n{table(rows, ['', ''])}" if rows else "## Machine\n\nNo record names a device."


def device_rows(device: Device) -> list[list[str]]:
    """Facts about a device as rows; missing facts (`driver`: null) are shown with their reason (`driver_reason`)."""
    facts = {name: fact for name, fact in device.model_dump().items() if not name.endswith("_reason")}
    return [[escape(name.replace("_", " ")), _fact(name, fact, device)] for name, fact in facts.items()]


def _fact(name: str, value: Any, device: Device) -> str:
    if value is None:
        return f"{NOTHING} {escape(device.model_extra.get(f'{name}_reason') or '')}".rstrip()
    if name.endswith("_bytes") and isinstance(value, int | float):
        return size(value)
    return escape(", ".join(map(str, value)) if isinstance(value, list) else value)


def builds(inputs: Inputs) -> str:
    """The binaries that the records used, one per row: compilers, sources and command."""
    used: dict[tuple[str, str], BuildUsed] = {}
    cases = Counter()
    for case in inputs.cases:
        if case.record and case.record.build and not inputs.is_foreign(case):
            binary = case.record.resolved.backend, case.record.build.sha256
            used.setdefault(binary, case.record.build)
            cases[binary] += 1
    if not used:
        return ""
    rows = [
        [backend, f"`{sha256[:16]}`", escape(_compiled(build)), str(cases[backend, sha256])]
        for (backend, sha256), build in sorted(used.items())
    ]
    headers = ["backend", "sha256 of the binary", "compiled", "cases"]
    return f"## Build\n\n{table(rows, headers)}\n\n{_provenance(inputs)}"


def _compiled(build: BuildUsed) -> str:
    """The parts of a binary, grouped by compiler; parts of a group differ only in their target."""
    alike: dict[str, list[str]] = {}
    for part in build.compiled:
        alike.setdefault(f"by {part.compiler} {part.version}", []).append(part.target)
    return "; ".join(f"{', '.join(targets)} {how}" for how, targets in alike.items())


def _provenance(inputs: Inputs) -> str:
    """Commit, sources and command of the records, one row per distinct combination."""
    origins: dict[str, tuple[Provenance, list[str]]] = {}
    for case in inputs.cases:
        if case.record and case.record.build:
            about = case.record.build.provenance
            origins.setdefault(about.model_dump_json(), (about, []))[1].append(case.id)
    rows = [
        [
            f"`{about.commit[:12]}`{' with changes' if about.dirty else ''}" if about.commit else NOTHING,
            f"`{about.sources[:16]}`",
            escape(shlex.join(about.command), LONGEST_COMMAND),
            str(len(cases)),
        ]
        for about, cases in origins.values()
    ]
    return table(rows, ["commit", "sha256 of the sources", "command", "cases"])


def ceilings(inputs: Inputs) -> str:
    """Read and copy bandwidth by size."""
    record = inputs.ceilings
    if record is None or record.status != "ok":
        why = inputs.ceilings_problem or (record.reason if record else "no ceilings.json")
        return f"## Ceilings\n\nNone: {escape(why)}."
    dependent = any(given(point.dependent) for point in record.points)
    headers = ["bytes of a pass", "read, GB/s", "copy, GB/s"]
    rows = [_point_row(point, dependent) for point in record.points]
    plateau = ["**plateau**", f"**{record.read_gbps:,.0f}**", f"**{record.copy_gbps:,.0f}**"]
    if dependent:
        headers += ["read, dependent launches", "copy, dependent launches"]
        plateau += ["", ""]
    parts = ["## Ceilings", table([*rows, plateau], headers), *_beside_the_curve(inputs, record.points)]
    return "\n\n".join(parts)


def _point_row(point: Point, dependent: bool) -> list[str]:
    """A size of the curve; marked if its launches visited too few buffers to flush the cache."""
    name = size(point.bytes) + (" (not cold)" if given(point.cold) is False else "")
    return [name, *_rates(point), *(_rates(given(point.dependent)) if dependent else [])]


def _rates(rates: Point | Pair | None) -> list[str]:
    """Read and copy bandwidth, in GB/s."""
    return [f"{rate.value:,.0f}" for rate in (rates.read_gbps, rates.copy_gbps)] if rates else [NOTHING] * 2


def _beside_the_curve(inputs: Inputs, points: list[Point]) -> list[str]:
    """Bandwidth of the cases, compared with pure passes over as many bytes; empty without cold cases."""
    rows = []
    for case in inputs.own:
        record = case.record
        for arm in ("full", "elastic") if record.resolved.cold else ():
            moved, achieved = getattr(record.bytes, arm), getattr(record.efficiency, arm).achieved_gbps
            pure = bytes_moved.gbps(moved, getattr(record.bytes.reachable, f"{arm}_us"))
            curve = bytes_moved.curve_gbps(curve_of(points, record.resolved.launch), moved)
            share = [NOTHING, NOTHING] if curve is None else [f"{curve:,.0f}", percent(achieved / curve)]
            rows.append([f"`{case.id}`", arm, size(moved), f"{achieved:,.0f}", f"{pure:,.0f}", *share])
    headers = ["case", "cache", "bytes", "achieved, GB/s", "pure pass of the same bytes", "read curve", "share of it"]
    if not rows:
        return []
    return ["### Bandwidth of the cases", table(rows, headers), CURVE_NOTE, CURVE_FIGURE]


def curve_of(points: list[Point], launch: str) -> list[tuple[int, float]]:
    """The read curve as (bytes, GB/s) for the launch mode of a case; empty if the record has none."""
    curves = ((point.bytes, given(point.dependent) if launch == "dependent" else point) for point in points)
    return [(nbytes, rates.read_gbps.value) for nbytes, rates in curves if rates]


def baselines(inputs: Inputs) -> str:
    """Language-model engines with their own full cache; empty if none is enabled."""
    if not inputs.baselines:
        return ""
    headers = ["engine", "model", "device", "dtype", "prefill, tokens/s", "decode, tokens/s", "first token, ms"]
    headers += ["perplexity", "peak memory", "status"]
    rows = [_baseline_row(baseline) for baseline in inputs.baselines]
    notes = [_baseline_note(baseline) for baseline in inputs.baselines if baseline.record]
    return "\n\n".join(["## Language-model baselines", table(rows, headers), *filter(None, notes), *_caches(inputs)])


def _caches(inputs: Inputs) -> list[str]:
    """Decode rates by cache implementation, for engines that have several."""
    rows = [
        [
            baseline.engine,
            escape(cache.name),
            _rate(cache.decode_tokens_per_second) if cache.decode_tokens_per_second else NOTHING,
            NOTHING if given(cache.tokens) is None else f"{cache.equal_tokens} of {cache.tokens}",
            escape(cache.reason or ""),
        ]
        for baseline in inputs.baselines
        if baseline.record and baseline.record.status == "ok"
        for cache in given(baseline.record.caches) or []
    ]
    headers = ["engine", "cache", "decode, tokens/s", "tokens equal to the first cache's", "reason"]
    if not rows:
        return []
    note = "Rates of all caches but the first are from a few short runs. Equal tokens: up to the first difference."
    return ["### Cache implementations", table(rows, headers), note]


def _baseline_note(baseline: Baseline) -> str:
    """How a baseline's figures were measured; empty if there are none."""
    record = baseline.record
    prompt, decoded, text = given(record.prompt_tokens), given(record.decode_tokens), given(record.text)
    if record.status != "ok" or None in (prompt, decoded):
        return ""
    facts = [f"a prompt of {prompt:,} tokens, then {decoded:,} decoded one by one"]
    facts += [f"medians of {len(record.decode_tokens_per_second.samples)} repetitions"]
    named = {"attention": given(record.attention), "cache": given(record.cache), "threads": given(record.threads)}
    facts += [f"{name} {escape(value)}" for name, value in named.items() if value]
    source = f" Perplexity of {escape(text.source)}." if text else ""
    return f"{escape(baseline.engine)}: {'; '.join(facts)}.{source}"


def _baseline_row(baseline: Baseline) -> list[str]:
    record = baseline.record
    if record is None:
        return [baseline.engine, *[NOTHING] * 8, f"failed: {escape(baseline.problem)}"]
    about = [escape(record.model.name), escape(record.device.name if record.device else NOTHING)]
    status = record.status if record.reason is None else f"{record.status}: {escape(record.reason)}"
    if record.status not in ("ok", "noisy"):
        return [baseline.engine, *about, *[NOTHING] * 6, status]
    rates = [record.prefill_tokens_per_second, record.decode_tokens_per_second, record.time_to_first_token_ms]
    shown = [NOTHING if record.status == "noisy" else _rate(rate) for rate in rates]
    memory = NOTHING if record.peak_memory_bytes is None else size(record.peak_memory_bytes)
    return [baseline.engine, *about, escape(record.dtype), *shown, f"{record.perplexity:.2f}", memory, status]


def _rate(rate: Rate) -> str:
    return f"{rate.value:,.1f} [{rate.low:,.1f}, {rate.high:,.1f}]"
