"""Looks up each number of a table in the record, at the path that its column stands for.

Paths are dotted; a list stands for its length. The meaning of each column is defined here from the documentation,
independently of the code that writes the table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from elastickv import kinds, policies
from elastickv.audit import judgement
from elastickv.audit.finding import About

NUMBER = re.compile(r"(?P<figure>\d[\d,]*(?:\.(?P<decimals>\d+))?(?:e(?P<power>[+-]\d+))?) ?(?P<unit>%|GB|MB|kB|)")
UNITS = {"%": 1e-2, "kB": 1e3, "MB": 1e6, "GB": 1e9, "": 1}
NAME = re.compile(r"`([^`]+)`")


def _interval(place: str, value: str = "value") -> tuple[str, ...]:
    return f"{place}.{value}", f"{place}.low", f"{place}.high"


def _ends(column: str, place: str, value: str = "value") -> dict[str, str]:
    """The columns of a value and its bounds."""
    return dict(zip((column, f"{column}_low", f"{column}_high"), _interval(place, value), strict=True))


# Columns of summary.csv that hold numbers: of a case, and of its result, which are blank where that may not be shown.
ARMS = ("full", "elastic")
SPEEDUP, CONTROLS, CYCLE = "statistics.speedup", "statistics.controls", "inference_cycle"
SUSTAINED, CV = "statistics.sustained.speedup", "processes.cv or statistics.elastic.cv"
DECLARED = [name for name, key in (policies.every_key() | kinds.every_key()).items() if key.kind is int]
FACTS = {name: f"case.{name}" for name in ("batch", "seq", "heads", "kv_heads", "dim", *DECLARED)}
FACTS |= {name: f"correctness.elastic.{name}" for name in ("relative_error", "tolerance")}
FACTS |= {name: f"bytes.{name}" for name in ("ceiling_slots", "ceiling_bits")}
FACTS |= {"full_bytes": "bytes.full", "elastic_bytes": "bytes.elastic", "byte_ceiling": "bytes.ceiling"}
FACTS |= {"layers": "resolved.layers", "processes": "resolved.processes"}
RESULTS = _ends("speedup", SPEEDUP) | _ends("sustained", SUSTAINED)
RESULTS |= {f"{arm}_control_{end}": f"{CONTROLS}.{arm}.{end}" for arm in ARMS for end in ("ratio", "low", "high")}
RESULTS |= {f"{arm}_us": f"statistics.{arm}.median_us" for arm in ARMS}
RESULTS |= {f"{arm}_layer_steps_per_second": f"{CYCLE}.layer_steps_per_second.{arm}" for arm in ("full", "elastic")}
RESULTS |= {f"{name}_gbps": f"efficiency.elastic.{name}_gbps" for name in ("achieved", "ceiling", "peak")}
RESULTS |= {
    "confidence": f"{SPEEDUP}.confidence",
    "cv": CV,
    "cv_trimmed": "statistics.elastic.cv_trimmed",
    "reachable_ceiling": "bytes.reachable_ceiling",
    "memory_efficiency": "efficiency.elastic.memory",
    "roofline": "efficiency.elastic.roofline",
    "full_memory_efficiency": "efficiency.full.memory",
    "full_roofline": "efficiency.full.roofline",
    "original_score": "original_score",
    "rounds": "resolved.reps",
    "power_capped_rounds": "throttling.power_capped_rounds",
}
WITHHELD = _ends("cycle_speedup", f"{CYCLE}.speedup")
# Of the entry on the full cache in the record of the peer that the row names.
BESIDE = {"peer_us": "full.ours.plain.peer.median_us"}
BESIDE |= _ends("peer_ratio", "full.ours.plain.ratio") | _ends("peer_ratio_dependent", "full.ours.dependent.ratio")

# Heading in report.md -> column -> where its numbers come from, in order.
OF_CASES = {
    "Results": {
        "speedup": _interval(SPEEDUP),
        "sustained": _interval(SUSTAINED),
        "interval covers": ("processes.runs",),
        "byte ceiling": ("bytes.ceiling",),
        "pure pass": ("bytes.reachable_ceiling",),
        "CV (trimmed)": (CV, "statistics.elastic.cv_trimmed"),
        "memory eff.": ("efficiency.elastic.memory", "efficiency.full.memory"),
        "roofline": ("efficiency.elastic.roofline", "efficiency.full.roofline"),
    },
    "Inference cycle": {
        "tokens": (f"{CYCLE}.decode_tokens",),
        "layers": (f"{CYCLE}.layers",),
        "full cache, layer steps/s": (f"{CYCLE}.layer_steps_per_second.full",),
        "elastic, layer steps/s": (f"{CYCLE}.layer_steps_per_second.elastic",),
        "speedup": _interval(f"{CYCLE}.speedup"),
        "appending alone: full / elastic (us)": (f"{CYCLE}.append_us.full", f"{CYCLE}.append_us.elastic"),
    },
    "Times, bytes and checks": {
        "full, us": ("statistics.full.median_us",),
        "elastic, us": ("statistics.elastic.median_us",),
        "full, bytes": ("bytes.full",),
        "elastic, bytes": ("bytes.elastic",),
        "A/A controls": tuple(place for arm in ARMS for place in _interval(f"{CONTROLS}.{arm}", "ratio")),
        "rounds": ("resolved.reps", "samples.dropped"),
        "processes": ("resolved.processes",),
        "layers": ("resolved.layers",),
        "relative error": ("correctness.elastic.relative_error",),
    },
    "Comparison with the original's claims": {
        "speedup": _interval(SPEEDUP),
        "CV (trimmed)": (CV, "statistics.elastic.cv_trimmed"),
        "memory efficiency": ("efficiency.elastic.memory",),
        "roofline": ("efficiency.elastic.roofline",),
        "original's score": ("original_score",),
    },
}
OF_ENGINES = {
    "prefill, tokens/s": _interval("prefill_tokens_per_second"),
    "decode, tokens/s": _interval("decode_tokens_per_second"),
    "first token, ms": _interval("time_to_first_token_ms"),
    "perplexity": ("perplexity",),
    "peak memory": ("peak_memory_bytes",),
}
OF_PEERS = {
    "ours, us": ("ours.plain.ours.median_us",),
    "ours dependent, us": ("ours.dependent.ours.median_us",),
    "peer, us": ("ours.plain.peer.median_us",),
    "ours / peer": _interval("ours.plain.ratio"),
    "dependent / peer": _interval("ours.dependent.ratio"),
    "relative error": ("correctness.relative_error",),
    "layers": ("resolved.layers",),
}
CACHE_OF = {"Full cache": "full", "The same elastic slots": "elastic", "Every peer": None}  # None: the column `cache`
WITHOUT_RESULT = ("byte ceiling",)  # columns that hold numbers of a case without a result too

Record = dict[str, Any]
Read = Callable[[str], Record | None]  # a record of the folder by its name, None when there is none


def at(record: Any, place: str) -> Any:
    """The value at a dotted path, or at the first of several (`a or b`) that has one; None where there is none."""
    first, _, others = place.partition(" or ")
    found = _at(record, first)
    return at(record, others) if found is None and others else found


def _at(record: Any, place: str) -> Any:
    for part in place.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


def shows(text: str, value: float) -> bool:
    """Whether a published number ("1.96x", "59.8%", "67.1 MB", "2.3e-04") is a value to the digits that it shows."""
    match = NUMBER.match(text)
    digits = int(match["power"] or 0) - len(match["decimals"] or "")
    scale = UNITS[match["unit"]]
    rounding = 0.5 * 10.0**digits * scale
    return math.isclose(
        float(match["figure"].replace(",", "")) * scale, value, rel_tol=1e-9, abs_tol=rounding * 1.000001
    )


def summary_row(about: About, cells: dict[str, str], record: Record, beside: Record) -> None:
    """The numbers of one row of summary.csv.

    beside: the entry of the peer that the row names; empty if it names none.
    """
    case, results = record["case"], judgement.holds(record)
    whole = (at(record, f"{CYCLE}.speedup.confidence") or 0) >= case["measure"]["confidence"]
    cycle = results and whole and record["status"] == "ok"  # it has no control by which it could be widened
    shown = FACTS | (RESULTS if results else {}) | (WITHHELD if cycle else {})
    if judgement.sustained(record) is None:
        shown = {column: place for column, place in shown.items() if not place.startswith(SUSTAINED)}
    values = {column: at(record, shown.get(column, "")) for column in FACTS | RESULTS | WITHHELD}
    values |= {column: at(beside, place) for column, place in BESIDE.items()}
    for column, value in ((column, "nothing" if value is None else value) for column, value in values.items()):
        stated = cells.get(column) or "nothing"
        empty = "nothing" in (stated, value)
        equal = stated == value if empty else math.isclose(float(stated), value, rel_tol=1e-12)
        about.require(equal, f"{case['id']}.{column}", stated, value)


def report_numbers(about: About, text: str, read: Read) -> None:
    """The numbers in the tables of report.md that come from a record each."""
    for heading, row in _rows(text):
        first = next(iter(row.values()))
        name = NAME.search(first)
        if heading == "Language-model baselines":
            _cells(about, f"{heading}: {first}", row, OF_ENGINES, read(f"{first}_baseline.json") or {})
        elif heading in OF_CASES and name:
            record = read(f"results_{name[1]}.json") or {}
            columns = OF_CASES[heading]
            if not (record and judgement.holds(record)):
                columns = {key: places if key in WITHOUT_RESULT else () for key, places in columns.items()}
            _cells(about, f"{heading}: {name[0]}", row, columns, record)
        elif heading in CACHE_OF and name:
            cache = CACHE_OF[heading] or row["cache"]
            peer = NAME.search(row.get("fastest peer") or row["peer"])[1]
            entry = entry_of(read(f"peers_{peer}.json"), name[1])
            _cells(about, f"{heading}: {name[0]}: {peer}", row, OF_PEERS, entry.get(cache, {}))


def entry_of(record: Record | None, case: str) -> Record:
    """A case's entry in a peer's record; empty if there is none."""
    entries = record["cases"] if record else []
    return next((entry for entry in entries if entry["case"]["id"] == case), {})


def _cells(about: About, where: str, row: dict[str, str], columns: dict[str, tuple[str, ...]], record: Record) -> None:
    """Checks a cell with a number. Whether a cell should have a number is checked by generating the text again."""
    for column, places in columns.items():
        cell = row.get(column, "")
        found = [match[0] for match in NUMBER.finditer(cell)]
        values = [len(value) if isinstance(value, list) else value for value in (at(record, place) for place in places)]
        known = [value for value in values if value is not None][: len(found)]
        equal = len(known) == len(found) and all(map(shows, found, known))
        expected = ", ".join(f"{value:.6g}" for value in known) or "no number"
        about.require(equal, f"{where}: {column}", cell, f"{expected} to the digits shown")


def _rows(markdown: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of all pipe tables: their heading, and their cells by column."""
    heading, header = "", None
    for line in markdown.splitlines():
        if not line.startswith("|"):
            heading, header = line.lstrip("# ") if line.startswith("#") else heading, None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if header is None:
            header = cells
        elif set(line) - set("|:- ") and len(cells) == len(header):
            yield heading, dict(zip(header, cells, strict=True))
