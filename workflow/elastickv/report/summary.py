"""`elastickv summarise`: summary.csv, one row per case in the order of the plan. Only valid results have numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from elastickv import kinds, policies, records
from elastickv.judge import folder, noise, verdict
from elastickv.report import cautions, peers
from elastickv.report.text import plain
from elastickv.schemas.base import at
from elastickv.schemas.config import Noise

NO_PEERS = peers.Peers()


class Column(NamedTuple):
    """A column: its path in the record, its meaning, and whether it is blank if the case has no result."""

    path: str
    meaning: str
    result: bool = True


def _fact(path: str, meaning: str) -> Column:
    return Column(path, meaning, result=False)


COLUMNS = {
    "case": _fact("case.id", "case id in the matrix"),
    "status": _fact("status", "ok, imprecise, noisy, incorrect, failed, out_of_memory, unsupported"),
    "problem": _fact("", "why the row has no result; empty if it has one"),
    "device": _fact("device.name", "device that was measured"),
    "driver": _fact("device.driver", "its driver"),
    "backend": _fact("resolved.backend", "cuda or cpu"),
    "launch": _fact("resolved.launch", "plain or dependent"),
    "workload": _fact("case.workload", "what was timed"),
    "batch": _fact("case.batch", "sequences"),
    "seq": _fact("case.seq", "tokens held"),
    "heads": _fact("case.heads", "query heads"),
    "kv_heads": _fact("case.kv_heads", "key-value heads"),
    "dim": _fact("case.dim", "elements a head"),
    "dtype": _fact("case.dtype", "storage format of exact slots and the full cache"),
    "cache_dtype": _fact("case.stored_as", "storage format of middle slots, or the formats of keys and values"),
    "policy": _fact("case.policy", "policy of the elastic cache; the next columns are the policies' keys"),
    **{name: _fact(f"case.{name}", key.meaning) for name, key in policies.every_key().items()},
    **{name: _fact(f"case.{name}", key.meaning) for name, key in kinds.every_key().items()},
    "layers": _fact("resolved.layers", "number of caches that samples rotate over"),
    "cold": _fact("resolved.cold", "whether the rotation flushes the last-level cache"),
    "full_us": Column("statistics.full.median_us", "full cache: median time of one launch, us"),
    "elastic_us": Column("statistics.elastic.median_us", "elastic cache: median time of one launch, us"),
    "speedup": Column("statistics.speedup.value", "median of the per-round ratios full / elastic"),
    "speedup_low": Column("statistics.speedup.low", "its interval, widened where the status is imprecise"),
    "speedup_high": Column("statistics.speedup.high", "its interval, widened where the status is imprecise"),
    "confidence": Column("statistics.speedup.confidence", "confidence of all intervals"),
    "cv_trimmed": Column("statistics.elastic.cv_trimmed", "coefficient of variation of the trimmed elastic samples"),
    "full_control_ratio": Column("statistics.controls.full.ratio", "A/A control: full / full again"),
    "full_control_low": Column("statistics.controls.full.low", "its interval"),
    "full_control_high": Column("statistics.controls.full.high", "its interval"),
    "full_bytes": _fact("bytes.full", "bytes moved by one launch of the full cache"),
    "elastic_bytes": _fact("bytes.elastic", "bytes moved by one launch of the elastic cache"),
    "byte_ceiling": _fact("bytes.ceiling", "largest speedup that the bytes allow"),
    "ceiling_slots": _fact("bytes.ceiling_slots", "its part from fewer slots"),
    "ceiling_bits": _fact("bytes.ceiling_bits", "its part from smaller slots"),
    "reachable_ceiling": Column("bytes.reachable_ceiling", "ratio of the times of pure passes"),
    "memory_efficiency": Column("efficiency.elastic.memory", "elastic bandwidth / datasheet peak"),
    "roofline": Column("efficiency.elastic.roofline", "elastic bandwidth / read ceiling of the same process"),
    "full_memory_efficiency": Column("efficiency.full.memory", "full-cache bandwidth / datasheet peak"),
    "full_roofline": Column("efficiency.full.roofline", "full-cache bandwidth / read ceiling of the same process"),
    "achieved_gbps": Column("efficiency.elastic.achieved_gbps", "elastic bandwidth, GB/s"),
    "ceiling_gbps": Column("efficiency.elastic.ceiling_gbps", "read ceiling of the same process, GB/s"),
    "peak_gbps": Column("efficiency.elastic.peak_gbps", "datasheet peak, GB/s"),
    "cycle_speedup": Column("inference_cycle.speedup.value", "inference cycle: append, compress, attend"),
    "cycle_speedup_low": Column("inference_cycle.speedup.low", "its interval"),
    "cycle_speedup_high": Column("inference_cycle.speedup.high", "its interval"),
    "full_layer_steps_per_second": Column("inference_cycle.layer_steps_per_second.full", "rate of one attention layer"),
    "elastic_layer_steps_per_second": Column(
        "inference_cycle.layer_steps_per_second.elastic", "rate of one attention layer"
    ),
    "original_score": Column("original_score", "the original's score, for comparison only"),
    "relative_error": _fact("correctness.elastic.relative_error", "L2 against float64"),
    "tolerance": _fact("correctness.elastic.tolerance", "largest relative error allowed"),
    "rounds": Column("statistics.elastic.count", "samples per arm"),
    "fingerprint": _fact("build.fingerprint", "fingerprint of the kernels"),
    "ended": _fact("ended", "UTC"),
}


# The fastest peer on the full cache, measured on the device of the row.
PEER_COLUMNS = {
    "peer": "fastest kernel of another library, full cache",
    "peer_us": "its median time of one launch, us",
    "peer_ratio": "peer / ours with plain launches: above 1, ours is faster",
    "peer_ratio_low": "its interval",
    "peer_ratio_high": "its interval",
    "peer_ratio_dependent": "peer / ours with dependent launches",
    "peer_ratio_dependent_low": "its interval",
    "peer_ratio_dependent_high": "its interval",
}
COLUMNS |= {name: _fact("", meaning) for name, meaning in PEER_COLUMNS.items()}
Cell = str | float | bool | None
Row = dict[str, Cell]  # by column
CYCLE_SPEEDUP = ("cycle_speedup", "cycle_speedup_low", "cycle_speedup_high")


def run(args: argparse.Namespace) -> int:
    """Writes `args.out` from the records of the plan `args.cases` in `args.results`, judged by `args.noise`."""
    limits = folder.noise_limits(args.noise)
    entries = folder.entries(args.cases, args.results)
    beside = peers_of(entries, args.results, limits)
    rows = [row(entry, limits, beside) for entry in entries]
    records.write_text(args.out, to_csv(rows))
    return 0


def peers_of(entries: list[folder.Entry], results: Path | str, limits: Noise) -> peers.Peers:
    """The peers' results for the cases of these entries, judged by the noise limits."""
    return peers.load(Path(results), {entry.case: entry.content for entry in entries}, limits)


def row(entry: folder.Entry, limits: Noise, beside: peers.Peers = NO_PEERS) -> Row:
    """One case, judged by the noise limits, as a row.

    A case without a usable record has only its id, the status `failed` and the problem.
    """
    if entry.record is None:
        return dict.fromkeys(COLUMNS) | {"case": entry.case, "status": "failed", "problem": cell(entry.problem)}
    record = noise.as_judged(entry.record, limits)
    problem = verdict.invalidity(record)
    cells = {
        name: None if column.result and problem else cell(at(record, column.path.split(".")))
        for name, column in COLUMNS.items()
        if column.path
    }
    if problem is None and not cautions.cycle_holds(record):
        cells |= dict.fromkeys(CYCLE_SPEEDUP)
    fastest = beside.fastest(entry.case, "full", at(record, ("device", "name")))
    return dict.fromkeys(COLUMNS) | cells | {"problem": cell(problem)} | (_peer_cells(fastest) if fastest else {})


def _peer_cells(fastest: peers.Beside) -> Row:
    found = {"peer": fastest.peer, "peer_us": fastest.us}
    for mode, name in {"plain": "peer_ratio", "dependent": "peer_ratio_dependent"}.items():
        ratio = fastest.ratio(mode)
        if ratio:
            found |= {name: ratio.value, f"{name}_low": ratio.low, f"{name}_high": ratio.high}
    return found


def cell(value: Cell) -> Cell:
    """Text on one line that a spreadsheet cannot interpret as a formula."""
    if not isinstance(value, str):
        return value
    line = plain(value)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def columns(rows: list[Row]) -> list[str]:
    """COLUMNS with the keys of the default policy and of all policies and workloads in use.

    A new policy or workload therefore does not change tables that do not use it.
    """
    used = {str(row["policy"]) for row in rows if row["policy"]}
    named = {"policy"} if used - {policies.DEFAULT} else set()
    named = named.union(*(policies.of(name).KEYS for name in (policies.DEFAULT, *used)))
    named = named.union(*(kinds.of(str(row["workload"])).KEYS for row in rows if row["workload"]))
    optional = {"policy", *policies.every_key(), *kinds.every_key()}
    return [name for name in COLUMNS if name in named or name not in optional]


def to_csv(rows: list[Row]) -> str:
    """CSV with `columns`; integers stay integers in columns with blanks."""
    import pandas

    return pandas.DataFrame(rows, columns=columns(rows), dtype=object).to_csv(index=False, lineterminator="\n")
