"""A results folder made of the example records, as a run would leave it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from elastickv.measure import statistics
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.verdict import Thresholds

RECORDS = Path(__file__).parent / "fixtures" / "records"
GOLDEN = {"speedup": 1.95, "excellent": 1.7, "cv": 0.05, "memory_efficiency": 0.70, "roofline": 0.80}
NOISE = {"cuda": 0.005, "cpu": 0.03, "widest": 0.25}
THRESHOLDS = {**GOLDEN, "noise": NOISE}
LIMITS = Thresholds.model_validate(THRESHOLDS)
PROVENANCE = json.loads((RECORDS / "4096_cpu.json").read_text(encoding="utf-8"))["build"]["provenance"]
GPU_CASES = ("4096_elementwise", "4096_golden_ticket", "1024_standard")
BROKEN_CASES = ("4096_incorrect", "4096_failed", "65536_batch64", "4096_dim72")


def example(name: str) -> dict[str, Any]:
    """A fresh copy of one example record."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def typed(record: dict[str, Any]) -> Measurement:
    """A measurement record as it is read."""
    return Measurement.model_validate(record)


def shortened(value: Any) -> Any:
    """The same record with at most four samples of each kind: it is checked faster."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    return [shortened(item) for item in value[:4]] if isinstance(value, list) else value


def put(results: Path, record: dict[str, Any]) -> None:
    """Writes a measurement record under its name, unchecked."""
    path = results / f"results_{record['case']['id']}.json"
    path.write_text(json.dumps(record), encoding="utf-8")


def list_cases(results: Path, cases: list[str], sweeps: dict[str, list[str]] | None = None) -> None:
    """Writes the plan's list of cases."""
    content = {"schema": "cases/2", "cases": cases, "sweeps": sweeps or {}}
    (results / ".plan/cases.json").write_text(json.dumps(content), encoding="utf-8")


def make(results: Path, cases: tuple[str, ...], *others: str, golden: dict[str, Any] = GOLDEN) -> Path:
    """Plan and records of `cases` (and records `others`, such as "ceilings") in a new folder `results`."""
    plan = results / ".plan"
    plan.mkdir(parents=True)
    list_cases(results, list(cases))
    config = {"results": "results/local", "golden": golden, "noise": NOISE}
    for name, content in {"golden": golden, "noise": NOISE, "config": config}.items():
        (plan / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (plan / "run.json").write_text(json.dumps(PROVENANCE), encoding="utf-8")
    (plan / "cases").mkdir()
    for case in cases:
        record = example(case)
        put(results, record)
        (plan / "cases" / f"{case}.json").write_text(json.dumps(record["case"]), encoding="utf-8")
    for name in others:
        shutil.copy(RECORDS / f"{name}.json", results / f"{name}.json")
    return results


def limits_of(command: str, results: Path) -> list[str]:
    """The flags of a command that reads limits out of the plan."""
    names = {"verdict": ("golden", "noise"), "summarise": ("noise",)}.get(command, ())
    return [part for name in names for part in (f"--{name}", str(results / f".plan/{name}.json"))]


def elastickv(command: list[str], results: Path, out: str) -> Path:
    """Runs `elastickv COMMAND` on a folder as the rules do; returns the output's path. The exit code must be 0."""
    from elastickv.cli import main

    path = results / out
    limits = limits_of(command[0], results)
    shared = ["--cases", str(results / ".plan/cases.json"), "--results", str(results), "--out", str(path)]
    assert main([*command, *limits, *shared]) == 0
    return path


HOSTILE = "<script>alert(1)</script> | `x` \n# H1 [a](http://b) $\\frac{ ✅ GPU golden @you #tag \u202e"
EVERYTHING = (*GPU_CASES, "4096_noisy", *BROKEN_CASES)


def judged(results: Path) -> Path:
    """The folder with its verdicts."""
    elastickv(["verdict"], results, "verdicts.json")
    return results


def gpu_folder(tmp_path: Path) -> Path:
    """One record of each kind, ceilings and baselines of a GPU; the noisy case is a CPU's."""
    return judged(make(tmp_path / "results", EVERYTHING, "ceilings", "transformers_baseline", "gguf_baseline"))


def cpu_folder(tmp_path: Path, **changes: Any) -> Path:
    """One CPU case, with changes to its device."""
    results = make(tmp_path / "results", ("4096_cpu",))
    record = example("4096_cpu")
    record["device"] |= changes
    put(results, record)
    return judged(results)


def swept(case: str, seq: int, compress: int, cache_dtype: str, speedup: float) -> dict[str, Any]:
    """The example of a CPU case at another place of a sweep, with a speedup a tenth below its byte ceiling."""
    record = example("4096_cpu")
    record["case"] |= {"id": case, "seq": seq, "compress": compress, "cache_dtype": cache_dtype}
    record["statistics"]["speedup"] |= {"value": speedup, "low": speedup * 0.99, "high": speedup * 1.01}
    record["bytes"] |= {"ceiling": speedup / 0.9, "reachable_ceiling": speedup / 0.95}
    return record


def short_cycle(case: str, samples: int) -> dict[str, Any]:
    """The example of a case whose inference cycle ended after so few samples."""
    record = example(case)
    cycle = record["inference_cycle"]
    cycle["samples"] = {name: series[:samples] for name, series in cycle["samples"].items()}
    seconds = (cycle["samples"][f"{arm}_seconds"] for arm in ("full", "elastic"))
    confidence = record["case"]["measure"]["confidence"]
    cycle["speedup"] = statistics.ratio_interval(*seconds, confidence).model_dump()
    return record


def without_result(record: dict[str, Any], status: str, reason: str) -> dict[str, Any]:
    """The same case, ended with a status that leaves no samples."""
    kept = ("schema", "case", "resolved", "device", "software", "build", "started", "ended")
    return {key: record[key] for key in kept} | {"status": status, "reason": reason}


def planned(results: Path, swept_records: list[dict[str, Any]], sweeps: dict[str, list[str]] | None = None) -> Path:
    """A folder whose plan is these records' cases; sweeps: their ids by the name of the sweep that they are of."""
    make(results, ())
    ids = [record["case"]["id"] for record in swept_records]
    list_cases(results, ids, sweeps)
    for record in swept_records:
        put(results, record)
        (results / f".plan/cases/{record['case']['id']}.json").write_text(json.dumps(record["case"]), encoding="utf-8")
    return results


def published(results: Path) -> None:
    """Writes what is made of the records, each by its command."""
    for command, name in (
        (["summarise"], "summary.csv"),
        (["verdict"], "verdicts.json"),
        (["report", "markdown"], "report.md"),
        (["report", "social"], "social_media_content.txt"),
        (["report", "manifest"], "manifest.json"),
    ):
        elastickv(command, results, name)
