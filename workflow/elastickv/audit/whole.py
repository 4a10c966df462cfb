"""Verifies a whole results folder, complete or partial.

With a manifest, the folder is a finished run: everything listed must exist and agree. Without one, a run is active or
was killed: existing files are checked, except those that are older than their inputs and will be rewritten.
"""

from __future__ import annotations

from typing import Any

from elastickv import records
from elastickv.audit import judged, manifest, measurement, peers, plan, published, rates, remade, store
from elastickv.audit.reading import NAMED, Folder
from elastickv.judge import folder as plan_folder

# What is made from records -> what it is made from, beside the records and the plan's list of cases. Patterns need not
# match anything, names have to be there.
MADE_FROM = {
    "summary.csv": (".plan/noise.json", "peers_*.json"),
    "verdicts.json": (".plan/golden.json", ".plan/noise.json"),
    "report.md": ("ceilings.json", "verdicts.json", "*_baseline.json", "peers_*.json"),
    published.TRACE: ("verdicts.json", "*_baseline.json"),
    published.POSTS: ("verdicts.json", "*_baseline.json"),
}


def check(folder: Folder) -> None:
    """Checks everything; `folder.findings` has the outcome."""
    _temporary(folder)
    listed = folder.record("manifest.json") if folder.has("manifest.json") else None
    folder.report_unreadable(manifest.listed(listed) if listed else None)
    if listed:
        manifest.check(folder, listed)
    finished = folder.has("manifest.json")
    planned = plan.check(folder)
    found = _measurements(folder, planned, finished) | _others(folder)
    stored = store.records_of(folder)
    for name, (schema, record) in stored.items():
        _one(folder, name, schema, record)
    store.check(folder.findings, found, stored)
    if not finished:
        missing = [case for case in planned or [] if f"results_{case}.json" not in found]
        stated = f"{len(missing)} of {len(planned)} cases have no record" if missing else "all cases have their record"
        folder.findings.notes.append(f"no manifest.json: an unfinished run ({stated if planned else 'no plan'})")
    if planned is not None:
        _made(folder, planned, finished)
    elif not finished and not folder.unreadable:
        for name in filter(folder.has, MADE_FROM):
            about = folder.findings.of(name)
            about.fault("(file)", "neither manifest.json nor .plan in the folder", "one of them, to identify its cases")


def _temporary(folder: Folder) -> None:
    """Temporary files of a killed process are not faults, since nothing reads them."""
    left = [path.relative_to(folder.path).as_posix() for path in sorted(folder.path.rglob(".*.part"))]
    folder.findings.notes += [
        f"{name}: left by a process that was killed while writing; may be deleted" for name in left
    ]


def _measurements(folder: Folder, planned: list[str] | None, finished: bool) -> store.Published:
    found = {}
    for name in folder.names("results_*.json"):
        record = plan.record_of(folder, name, planned, finished)
        if record is not None:
            found[name] = record
            _one(folder, name, "measurement", record)
    return found


def _others(folder: Folder) -> store.Published:
    """Ceilings, baselines and peers. Those of a store are known by their own field `schema`."""
    found = {}
    names = [name for name, schema in NAMED.items() if schema in ("ceilings", "baseline") and folder.has(name)]
    for name in [*names, *folder.names("peers_*.json")]:
        record = folder.record(name)
        if record is not None:
            found[name] = record
            _one(folder, name, record["schema"].partition("/")[0], record)
    return found


CHECKS = {
    "measurement": measurement.check,
    "baseline": rates.baseline,
    "ceilings": rates.ceilings,
    "peers": peers.check,
}


def _one(folder: Folder, name: str, schema: str, record: dict[str, Any]) -> None:
    if schema in CHECKS:
        about = folder.findings.of(name)
        with about.recomputing("(record)"):
            CHECKS[schema](about, record)


def _made(folder: Folder, planned: list[str], finished: bool) -> None:
    """Checks the files generated from the records, except those that are outdated in an unfinished run."""
    present = [name for name in MADE_FROM if folder.has(name) and name not in folder.unreadable]
    checked = [name for name in present if finished or not _stale(folder, planned, name)]
    try:
        entries = plan_folder.entries(folder.path / plan.CASES, folder.path)
    except records.RecordError:
        return  # a case file of the plan that cannot be read: already a fault
    if "summary.csv" in checked:
        judged.table(folder, entries)
    if "verdicts.json" in checked:
        judged.verdicts(folder, entries)
    if any(name in checked for name in ("report.md", published.TRACE, published.POSTS)):
        _published(folder, checked)


def _published(folder: Folder, checked: list[str]) -> None:
    if "verdicts.json" in folder.unreadable:
        return
    about = folder.findings.of("verdicts.json")
    try:
        inputs = remade.inputs(folder.path / plan.CASES, folder.path)
    except records.RecordError as error:
        about.fault("(file)", str(error).removeprefix(f"{folder.path / 'verdicts.json'}: "), "what the report is of")
        return
    with folder.findings.of("report.md").recomputing("(file)"):
        if "report.md" in checked:
            published.report(folder, inputs)
    with folder.findings.of(published.POSTS).recomputing("(file)"):
        if {published.TRACE, published.POSTS} & set(checked):
            published.posts(folder, inputs)


def _stale(folder: Folder, planned: list[str], name: str) -> bool:
    """Whether a file of an unfinished run is older than what it is made from: noted, for the next run rewrites it."""
    needed = [f"results_{case}.json" for case in planned] + [plan.CASES]
    needed += [other for other in MADE_FROM[name] if "*" not in other]
    optional = folder.names(*(pattern for pattern in MADE_FROM[name] if "*" in pattern))
    made = (folder.path / name).stat().st_mtime_ns
    missing = next((other for other in needed if not folder.has(other)), None)
    present = [other for other in (*needed, *optional) if folder.has(other) and other not in folder.unreadable]
    newer = next((other for other in present if (folder.path / other).stat().st_mtime_ns > made), None)
    if missing or newer:
        why = f"{missing} is missing" if missing else f"older than {newer}"
        folder.findings.notes.append(f"{name}: {why}: the next run rewrites it; not checked")
    return bool(missing or newer)
