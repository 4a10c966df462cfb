"""Checks `verdicts.json` and `summary.csv`: judges every case again and looks up every number in its record."""

from __future__ import annotations

import csv
import io
from typing import Any

from elastickv.audit import judgement, noise, remade, tables
from elastickv.audit.finding import About
from elastickv.audit.reading import Folder
from elastickv.judge import folder as plan_folder

Entries = list[plan_folder.Entry]


def verdicts(folder: Folder, entries: Entries) -> None:
    """Every case of the plan judged again; the thresholds are the plan's."""
    found = folder.record("verdicts.json")
    if found is None:
        return
    about = folder.findings.of("verdicts.json", "fields of verdicts")
    planned = _planned(folder)
    if planned:
        about.same("thresholds", found["thresholds"], planned)
    stated, wanted = [entry["case"] for entry in found["cases"]], [entry.case for entry in entries]
    if not about.require(stated == wanted, "cases", f"verdicts of {stated}", f"of {wanted}, as planned"):
        return
    thresholds = planned or found["thresholds"]
    for index, entry in enumerate(entries):
        where = f"cases.{index} ({entry.case})"
        with about.recomputing(where):
            check(about, where, found["cases"][index], _record(folder, entry), entry, thresholds)


def _planned(folder: Folder) -> dict[str, Any] | None:
    """The thresholds of the plan, as far as it can be read."""
    golden, limits = (
        folder.record(name) if folder.has(name) else None for name in (".plan/golden.json", ".plan/noise.json")
    )
    return {**golden, "noise": limits} if golden and limits else None


def _record(folder: Folder, entry: plan_folder.Entry) -> dict[str, Any] | None:
    """The record of a case as stored; None if there is no usable record."""
    return folder.record(f"results_{entry.case}.json") if entry.record else None


def check(
    about: About,
    where: str,
    found: dict[str, Any],
    record: dict[str, Any] | None,
    entry: plan_folder.Entry,
    thresholds: dict[str, Any],
) -> None:
    """Checks one verdict. The reason of a case without a record contains a path, which differs between machines."""
    if record is None or entry.record is None:
        about.same(where, _without_reasons(found), judgement.without_record(entry.case, thresholds))
        return
    about.same(where, _without_reasons(found), judgement.judge(record, thresholds))
    remade.reasons(about, where, found, entry.record, thresholds)


def _without_reasons(entry: dict[str, Any]) -> dict[str, Any]:
    criteria = {name: _without_reason(criterion) for name, criterion in entry["criteria"].items()}
    return _without_reason(entry) | {"criteria": criteria}


def _without_reason(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "reason"}


def table(folder: Folder, entries: Entries) -> None:
    """summary.csv: a row for each case, its numbers from the records, the rest as the records give it."""
    text = folder.text("summary.csv")
    if text is None:
        return
    about = folder.findings.of("summary.csv", "cells of the summary")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns, rows = list(reader.fieldnames or []), list(reader)
    except csv.Error as error:
        about.fault("(file)", str(error), "a table of comma-separated values")
        return
    whole = all(None not in row and None not in row.values() for row in rows)
    if not about.require(whole and len(set(columns)) == len(columns), "(file)", "rows of other lengths", "a table"):
        return
    stated, wanted = [row.get("case") for row in rows], [entry.case for entry in entries]
    if not about.require(stated == wanted, "case", f"rows of {stated}", f"of {wanted}, as planned"):
        return
    limits = folder.record(".plan/noise.json") if folder.has(".plan/noise.json") else None
    if limits is None:
        about.note("the plan has no noise limits to judge it by: not checked")
        return
    with about.recomputing("(file)"):
        if not remade.summary(about, columns, rows, entries, folder.path, limits):
            return
    for cells, entry in zip(rows, entries, strict=True):
        record = _record(folder, entry)
        if record:
            with about.recomputing(entry.case):
                name = f"peers_{cells['peer']}.json"
                peer = folder.record(name) if cells["peer"] and folder.has(name) else None
                beside = tables.entry_of(peer and noise.judged_peer(peer, limits), entry.case)
                tables.summary_row(about, cells, noise.judged(record, limits), beside)
