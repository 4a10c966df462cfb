"""Verifies a whole results folder, complete or partial.

With a manifest, the folder is a finished run: everything listed must exist and agree. Without one, a run is active or
was killed, or someone deleted it, which is a fault unless the caller expects an unfinished run. Existing files are
checked, except those that are older than their inputs and will be rewritten.
"""

from __future__ import annotations

from typing import Any

from elastickv import records
from elastickv.audit import (
    drawn,
    judged,
    manifest,
    measurement,
    peers,
    plan,
    processes,
    published,
    rates,
    remade,
    series,
)
from elastickv.audit.reading import Folder
from elastickv.judge import folder as results_folder

CHECKS = {
    "results_*.json": measurement.check,
    "ceilings.json": rates.ceilings,
    "*_baseline.json": rates.baseline,
    "peers_*.json": peers.check,
}
SAMPLES = {"results_*.json": processes.measurements, "peers_*.json": peers.measurements}
# What is made from the records of all cases -> what it is made from besides. Patterns need not match anything.
MADE_FROM = {
    "summary.csv": (".plan/noise.json", "peers_*.json"),
    "verdicts.json": (".plan/golden.json", ".plan/noise.json"),
    "report.md": ("ceilings.json", "verdicts.json", "*_baseline.json", "peers_*.json"),
    published.TRACE: ("verdicts.json", "*_baseline.json"),
    published.POSTS: ("verdicts.json", "*_baseline.json"),
}


def check(folder: Folder, unfinished: bool = False) -> None:
    """Checks everything; `folder.findings` has the outcome. unfinished: a run may lack its manifest."""
    left = sorted(path.relative_to(folder.path).as_posix() for path in folder.path.rglob(".*.part"))
    killed = "left by a process that was killed while writing; may be deleted"
    folder.findings.notes += [f"{name}: {killed}" for name in left]
    listed, finished = folder.record("manifest.json"), folder.has("manifest.json")
    if listed:
        manifest.check(folder, listed)
    planned = plan.check(folder, listed)
    for name in folder.names("results_*.json"):
        plan.record_of(folder, name, planned, finished)
    for pattern, recompute in CHECKS.items():
        for name in folder.names(pattern):
            record, about = folder.record(name), folder.findings.of(name)
            if record is not None:
                with about.recomputing("(record)"):
                    recompute(about, record)
    _no_copies(folder)
    if not finished:
        _unfinished(folder, planned)
        if not unfinished:
            expected = "the list of all files with their hashes, which a finished run writes (else: --unfinished)"
            folder.findings.of("manifest.json").fault("(file)", "nothing", expected)
    if planned:
        _made(folder, planned, finished)


def _no_copies(folder: Folder) -> None:
    """No measurement has the samples of another, in any record. Cases that differ in their id are measured once."""
    every: dict[str, list[float]] = {}
    seen: list[Any] = []
    for pattern, measurements in SAMPLES.items():
        for name in folder.names(pattern):
            record = folder.record(name) or {}
            for case, part, samples in measurements(record):
                measured = (case | {"id": ""}, record.get("peer"), part)
                if measured not in seen:
                    every |= {f"{name} {case['id']} {part} {one}": times for one, times in series.of(samples).items()}
                seen.append(measured)
    series.unlike(folder.findings.of("(records)"), "samples", every)


def _unfinished(folder: Folder, planned: plan.Plan | None) -> None:
    """Notes how far an unfinished run is. Without a plan, nothing says which cases its tables and texts are of."""
    cases = planned.cases if planned else {}
    missing = [case for case in cases if not folder.record(f"results_{case}.json")]
    stated = f"{len(missing)} of {len(cases)} cases have no record" if missing else "all cases have their record"
    folder.findings.notes.append(f"no manifest.json: an unfinished run ({stated if planned else 'no plan'})")
    if not folder.has(plan.CASES):
        for name in filter(folder.has, MADE_FROM):
            found = "neither manifest.json nor .plan in the folder"
            folder.findings.of(name).fault("(file)", found, "one of them, to identify its cases")


def _made(folder: Folder, planned: plan.Plan, finished: bool) -> None:
    """Checks the files generated from the records, except those that are outdated in an unfinished run."""
    present = [name for name in MADE_FROM if folder.has(name) and folder.can_read(name)]
    checked = [name for name in present if finished or not _stale(folder, planned, name)]
    try:
        entries = results_folder.entries(planned.file, folder.path)
    except records.RecordError:
        return  # a case file of the plan that cannot be read: already a fault
    if "summary.csv" in checked:
        judged.table(folder, planned, entries)
    if "verdicts.json" in checked:
        judged.verdicts(folder, planned, entries)
    texts = {"report.md", published.TRACE, published.POSTS} & {*checked}
    if texts and folder.record("verdicts.json"):
        _published(folder, planned, texts)
    if finished and folder.record("verdicts.json"):
        with folder.findings.of("figures").recomputing("(files)"):
            try:
                drawn.check(folder, planned)
            except records.RecordError as error:
                folder.findings.of("figures").fault("(files)", str(error), "records that figures can be drawn of")


def _published(folder: Folder, planned: plan.Plan, texts: set[str]) -> None:
    try:
        inputs = remade.load(planned.file, folder.path)
    except records.RecordError as error:
        reason = str(error).removeprefix(f"{folder.path / 'verdicts.json'}: ")
        folder.findings.of("verdicts.json").fault("(file)", reason, "what the report is of")
        return
    if "report.md" in texts:
        with folder.findings.of("report.md").recomputing("(file)"):
            published.report(folder, inputs)
    if texts - {"report.md"}:
        with folder.findings.of(published.POSTS).recomputing("(file)"):
            published.posts(folder, inputs)


def _stale(folder: Folder, planned: plan.Plan, name: str) -> bool:
    """Whether a file of an unfinished run is older than what it is made from: noted, for the next run rewrites it."""
    needed = [f"results_{case}.json" for case in planned.cases] + [plan.CASES]
    needed += [other for other in MADE_FROM[name] if "*" not in other]
    optional = [other for pattern in MADE_FROM[name] if "*" in pattern for other in folder.names(pattern)]
    made = (folder.path / name).stat().st_mtime_ns
    missing = [f"{other} is missing" for other in needed if not folder.has(other)]
    present = (other for other in (*needed, *optional) if folder.has(other) and folder.can_read(other))
    why = missing + [f"older than {other}" for other in present if (folder.path / other).stat().st_mtime_ns > made]
    if why:
        folder.findings.notes.append(f"{name}: {why[0]}: the next run rewrites it; not checked")
    return bool(why)
