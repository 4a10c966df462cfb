"""`summary.csv` and `verdicts.json`, made again from records and thresholds."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from elastickv.audit import noise, wording
from elastickv.audit.finding import About
from elastickv.audit.reading import Folder
from elastickv.judge import folder as plan_folder
from elastickv.judge import verdict
from elastickv.report import summary

Entries = list[plan_folder.Entry]


def verdicts(folder: Folder, entries: Entries) -> None:
    """Every case of the plan judged again; the thresholds are the plan's.

    What the controls allow is computed once more by code of its own.
    """
    found = folder.record("verdicts.json")
    if found is None:
        return
    about = folder.findings.of("verdicts.json", "fields of verdicts")
    planned = _planned(folder)
    if planned:
        about.same("thresholds", found["thresholds"], planned)
    told, wanted = [entry["case"] for entry in found["cases"]], [entry.case for entry in entries]
    if not about.require(told == wanted, "cases", f"verdicts of {told}", f"of {wanted}, as planned"):
        return
    thresholds = planned or found["thresholds"]
    for index, entry in enumerate(entries):
        if entry.record:
            with about.recomputing(f"cases.{index}.status"):
                noise.check(about, f"cases.{index} ({entry.case})", found["cases"][index], entry.record, thresholds)
        with about.recomputing(f"cases.{index}"):
            expected = (
                verdict.judge(entry.record, thresholds)
                if entry.record
                else verdict.unreadable(entry.case, entry.problem, thresholds)
            )
            _entry(about, f"cases.{index} ({entry.case})", found["cases"][index], expected, entry.record is None)


def _planned(folder: Folder) -> dict[str, Any] | None:
    """The thresholds of the plan, as far as it can be read."""
    golden, limits = (
        folder.record(name) if folder.has(name) else None for name in (".plan/golden.json", ".plan/noise.json")
    )
    return {**golden, "noise": limits} if golden and limits else None


def _entry(about: About, where: str, found: dict[str, Any], expected: dict[str, Any], unreadable: bool) -> None:
    """One verdict. Reasons may be worded otherwise; of a case without a record they name paths and are left out."""
    if not unreadable:
        wording.same(about, f"{where}.reason", found["reason"], expected["reason"])
        for name, criterion in expected["criteria"].items():
            told = found["criteria"][name]["reason"]
            wording.same(about, f"{where}.criteria.{name}.reason", told, criterion["reason"])
    about.same(where, _without_reasons(found), _without_reasons(expected))


def _without_reasons(entry: dict[str, Any]) -> dict[str, Any]:
    criteria = {name: {**criterion, "reason": ""} for name, criterion in entry["criteria"].items()}
    return {**entry, "reason": "", "criteria": criteria}


def table(folder: Folder, entries: Entries) -> None:
    """Every cell of summary.csv against the record that its column names."""
    text = folder.text("summary.csv")
    if text is None:
        return
    about = folder.findings.of("summary.csv", "cells of the summary")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        about.fault("(file)", str(error), "a table of comma-separated values")
        return
    columns = rows[0] if rows else []
    known = all(column in summary.COLUMNS for column in columns) and len(set(columns)) == len(columns)
    if not about.require(known and columns[:1] == ["case"], "(header)", ",".join(columns), ",".join(summary.COLUMNS)):
        return
    lacking = [column for column in summary.COLUMNS if column not in columns]
    if lacking:
        about.note(f"written by another version of this package: has no {', '.join(lacking)}")
    told, wanted = [row[:1] for row in rows[1:]], [[entry.case] for entry in entries]
    if not about.require(told == wanted, "case", f"rows of {told}", f"of {wanted}, as planned"):
        return
    limits = folder.record(".plan/noise.json") if folder.has(".plan/noise.json") else None
    if limits is None:
        about.note("the plan has no noise limits to judge it by: not checked")
        return
    beside = summary.peers_of(entries, folder.path, limits)
    for cells, entry in zip(rows[1:], entries, strict=True):
        if about.require(len(cells) == len(columns), entry.case, f"{len(cells)} cells", f"{len(columns)}"):
            with about.recomputing(entry.case):
                _row(about, entry, summary.row(entry, limits, beside), dict(zip(columns, cells, strict=True)))


def _row(about: About, entry: plan_folder.Entry, expected_cells: dict[str, Any], cells: dict[str, str]) -> None:
    """One row: cells as text, numbers by their value. Why a record cannot be read may be worded by another path."""
    for column, told in cells.items():
        if column == "problem" and entry.record is None:
            continue
        expected = expected_cells[column]
        holds = _is(told, expected) if isinstance(expected, float) else told == _text(expected)
        about.require(holds, f"{entry.case}.{column}", told or "nothing", _text(expected) or "nothing")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _is(text: str, value: float) -> bool:
    try:
        return math.isclose(float(text), value, rel_tol=1e-12)
    except ValueError:
        return False
