"""Checks the plan of a results folder, and that each record belongs to its planned case."""

from __future__ import annotations

from typing import Any

from elastickv.audit.reading import Folder

CASES = ".plan/cases.json"
THRESHOLDS = ("golden", "noise")


def check(folder: Folder) -> list[str] | None:
    """The ids of the planned cases in order, or None without a plan that can be read."""
    for name in folder.names(".plan/cases/*.json"):
        case = folder.record(name)
        if case:
            folder.findings.of(name).same("id", case["id"], name.removeprefix(".plan/cases/").removesuffix(".json"))
    config = folder.config() or {}
    for part in THRESHOLDS:
        name = f".plan/{part}.json"
        limits = folder.record(name) if folder.has(name) else None
        if limits and part in config:
            folder.findings.of(name).same("", limits, config[part])
    planned = folder.record(CASES) if folder.has(CASES) else None
    return planned["cases"] if planned else None


def record_of(folder: Folder, name: str, planned: list[str] | None, finished: bool) -> dict[str, Any] | None:
    """The measurement record of a file: its case has to be the file's and the plan's. None when it cannot be read."""
    record = folder.record(name)
    if record is None:
        return None
    about = folder.findings.of(name)
    case = name.removeprefix("results_").removesuffix(".json")
    about.require(record["case"]["id"] == case, "case.id", record["case"]["id"], case)
    if planned is not None and case not in planned:
        if finished:
            about.fault("case.id", case, f"one of the {len(planned)} cases of {CASES}")
        else:
            about.note("not in the plan any more: the next run moves it away")
    path = f".plan/cases/{case}.json"
    if folder.has(path) and (content := folder.record(path)):
        about.same("case", record["case"], content)
    return record
