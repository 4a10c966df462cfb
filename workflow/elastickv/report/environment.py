"""Tables about the environment of the measurements: machine, builds, ceilings, language-model baselines."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from elastickv.cache import bytes_moved
from elastickv.report import tables
from elastickv.report.inputs import Baseline, Case, Inputs
from elastickv.report.text import NOTHING, escape, percent, size
from elastickv.schemas.base import at, given
from elastickv.schemas.baseline import Cache
from elastickv.schemas.ceilings import Point
from elastickv.schemas.config import Measure
from elastickv.schemas.config import Peers as PeerSettings
from elastickv.schemas.measurement import Measurement, Resolved
from elastickv.schemas.parts import BuildUsed, Device, Rate
from elastickv.schemas.peers import Peers
from elastickv.schemas.provenance import Provenance

LONGEST_COMMAND = 600


def sections(inputs: Inputs) -> dict[str, Any]:
    """What report.md.jinja shows of the environment, by the names there."""
    record, own = inputs.ceilings, [case for case in inputs.cases if case.record and not inputs.is_foreign(case)]
    points = record.points if record and record.status == "ok" else None
    notes = [_baseline_note(baseline) for baseline in inputs.baselines if baseline.measured]
    return {
        "machine": machine(inputs, own),
        "builds": builds([case for case in own if case.record.build]),
        "origins": origins([record for record in _records(inputs) if record.build]),
        "settings": settings(inputs),
        "ceilings": ceilings(inputs) if points else "",
        "no_ceilings": not points and (inputs.ceilings_problem or (record.reason if record else "no ceilings.json")),
        "beside_the_curve": beside_the_curve(inputs, points) if points else "",
        "baselines": baselines(inputs.baselines),
        "baseline_notes": [note for note in notes if note],
        "caches": caches(inputs.baselines),
    }


def machine(inputs: Inputs, own: list[Case]) -> str:
    """Device facts and software versions from the records of this run."""
    record = inputs.ceilings or (own[0].record if own else None)
    software = [[escape(name), escape(version)] for name, version in (record.software if record else ()) if version]
    rows = [*(device_rows(inputs.device) if inputs.device else []), *software]
    return tables.table(rows, ["", ""]) if rows else ""


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


def builds(cases: list[Case]) -> str:
    """The binaries that the records used, one per row."""
    used = {(case.record.resolved.backend, case.record.build.sha256): case.record.build for case in reversed(cases)}
    counts = Counter((case.record.resolved.backend, case.record.build.sha256) for case in cases)
    columns = {
        "backend": lambda binary: binary[0],
        "sha256 of the binary": lambda binary: f"`{binary[1][:16]}`",
        "compiled": lambda binary: escape(_compiled(used[binary])),
        "cases": lambda binary: str(counts[binary]),
    }
    return tables.of(sorted(used), columns)


def _compiled(build: BuildUsed) -> str:
    """The parts of a binary, grouped by compiler; parts of a group differ only in their target."""
    alike: dict[str, list[str]] = defaultdict(list)
    for part in build.compiled:
        alike[f"by {part.compiler} {part.version}"].append(part.target)
    return "; ".join(f"{', '.join(targets)} {how}" for how, targets in alike.items())


def _records(inputs: Inputs) -> list[Measurement | Peers]:
    """The records of the cases and of the peers."""
    return [*(case.record for case in inputs.cases if case.record), *inputs.peers.records]


def origins(records: list[Measurement | Peers]) -> str:
    """Commit, sources and command of the records, one row per distinct combination."""
    counts = Counter(record.build.provenance.model_dump_json() for record in records)

    def commit(about: Provenance) -> str:
        return f"`{about.commit[:12]}`{' with changes' if about.dirty else ''}" if about.commit else NOTHING

    columns = {
        "commit": commit,
        "sha256 of the sources": lambda about: f"`{about.sources[:16]}`",
        "command": lambda about: escape(shlex.join(about.command), LONGEST_COMMAND),
        "records": lambda about: str(counts[about.model_dump_json()]),
    }
    return tables.of(map(Provenance.model_validate_json, counts), columns)


def settings(inputs: Inputs) -> str:
    """The settings of cases and peers that differ from the defaults of a matrix, each with the records that used it."""
    used: dict[tuple[str, Any, Any], list[str]] = defaultdict(list)
    for case in filter(lambda case: case.record, inputs.cases):
        for name, value in case.record.case.root.measure:
            of_workload = name == "decode_tokens" and not case.content.kind.CACHE  # other workloads have no cycle
            default = Measure.model_fields[name].default
            if value != default and not of_workload:
                used[f"measure.{name}", value, default].append(case.id)
        for name, value in given(case.record.resolved.forced) or ():
            if given(value) is not None:
                used[f"--{name}", value, "auto"].append(case.id)
    for record in inputs.peers.records:
        for name, value in record.settings:
            default = PeerSettings.model_fields[name].default
            if value != default:
                used[f"baselines.peers.{name}", value, default].append(record.peer)
    columns = {
        "setting": lambda key: f"`{key[0]}`",
        "used": lambda key: escape(key[1]),
        "default": lambda key: escape(key[2]),
        "records": lambda key: ", ".join(f"`{name}`" for name in used[key]),
    }
    return tables.of(used, columns)


def ceilings(inputs: Inputs) -> str:
    """Read and copy bandwidth by size."""
    record = inputs.ceilings
    dependent = any(given(point.dependent) for point in record.points)
    rows = []
    for point in record.points:
        pairs = [point, *([given(point.dependent)] if dependent else [])]
        rates = [rate for pair in pairs for rate in ((pair.read_gbps, pair.copy_gbps) if pair else (None, None))]
        name = size(point.bytes) + (" (not cold)" if given(point.cold) is False else "")
        rows.append([name, *(f"{rate.value:,.0f}" if rate else NOTHING for rate in rates)])
    plateau = ["**plateau**", f"**{record.read_gbps:,.0f}**", f"**{record.copy_gbps:,.0f}**"]
    headers = ["bytes of a pass", "read, GB/s", "copy, GB/s"]
    if dependent:
        headers += ["read, dependent launches", "copy, dependent launches"]
    return tables.table([*rows, plateau + [""] * (len(headers) - 3)], headers)


def beside_the_curve(inputs: Inputs, points: list[Point]) -> str:
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
    return tables.table(rows, headers) if rows else ""


def curve_of(points: list[Point], launch: str) -> list[tuple[int, float]]:
    """The read curve as (bytes, GB/s) for the launch mode of a case; empty if the record has none."""
    curves = ((point.bytes, given(point.dependent) if launch == "dependent" else point) for point in points)
    return [(nbytes, rates.read_gbps.value) for nbytes, rates in curves if rates]


def layers(used: Resolved) -> str:
    """How many caches the samples rotate over, and whether that flushes the last-level cache."""
    return f"{used.layers}, {'cold' if used.cold else 'warm'}"


def baselines(found: list[Baseline]) -> str:
    """Language-model engines with their own full cache; a noisy one has no rate."""

    def rate(name: str) -> Callable[[Baseline], str]:
        return lambda baseline: _rate(getattr(baseline.record, name)) if baseline.measured else NOTHING

    def ran(cell: Callable[[Any], str]) -> Callable[[Baseline], str]:
        return lambda one: cell(one.record) if one.record and one.record.status in ("ok", "noisy") else NOTHING

    def status(baseline: Baseline) -> str:
        if baseline.record is None:
            return f"failed: {escape(baseline.problem)}"
        reason = baseline.record.reason
        return baseline.record.status + (f": {escape(reason)}" if reason is not None else "")

    columns = {
        "engine": lambda baseline: baseline.engine,
        "model": lambda baseline: escape(at(baseline.record, ("model", "name")) or NOTHING),
        "device": lambda baseline: escape(at(baseline.record, ("device", "name")) or NOTHING),
        "dtype": ran(lambda record: escape(record.dtype)),
        "prefill, tokens/s": rate("prefill_tokens_per_second"),
        "decode, tokens/s": rate("decode_tokens_per_second"),
        "first token, ms": rate("time_to_first_token_ms"),
        "perplexity": ran(lambda record: f"{record.perplexity:.2f}"),
        "peak memory": ran(lambda record: NOTHING if (used := record.peak_memory_bytes) is None else size(used)),
        "status": status,
    }
    return tables.of(found, columns)


def caches(found: list[Baseline]) -> str:
    """Decode rates by cache implementation, for engines that have several."""

    def equal(cache: Cache) -> str:
        return NOTHING if given(cache.tokens) is None else f"{cache.equal_tokens} of {cache.tokens}"

    every = [(one.engine, cache) for one in found if one.measured for cache in given(one.record.caches) or []]
    columns = {
        "engine": lambda row: row[0],
        "cache": lambda row: escape(row[1].name),
        "decode, tokens/s": lambda row: _rate(row[1].decode_tokens_per_second),
        "tokens equal to the first cache's": lambda row: equal(row[1]),
        "reason": lambda row: escape(row[1].reason or ""),
    }
    return tables.of(every, columns)


def _baseline_note(baseline: Baseline) -> str:
    """How a baseline's figures were measured; empty if its record does not say."""
    record = baseline.record
    prompt, decoded, text = given(record.prompt_tokens), given(record.decode_tokens), given(record.text)
    if None in (prompt, decoded):
        return ""
    facts = [f"a prompt of {prompt:,} tokens, then {decoded:,} decoded one by one"]
    facts += [f"medians of {len(record.decode_tokens_per_second.samples)} repetitions"]
    named = {"attention": given(record.attention), "cache": given(record.cache), "threads": given(record.threads)}
    facts += [f"{name} {escape(value)}" for name, value in named.items() if value]
    source = f" Perplexity of {escape(text.source)}." if text else ""
    return f"{escape(baseline.engine)}: {'; '.join(facts)}.{source}"


def _rate(rate: Rate | None) -> str:
    return f"{rate.value:,.1f} [{rate.low:,.1f}, {rate.high:,.1f}]" if rate else NOTHING
