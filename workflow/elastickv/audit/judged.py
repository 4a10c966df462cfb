"""`summary.csv` and `verdicts.json`, made again from records and thresholds."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from elastickv.audit import wording
from elastickv.audit.finding import About
from elastickv.audit.reading import Folder
from elastickv.judge import folder as plan_folder
from elastickv.judge import verdict
from elastickv.report import summary
from elastickv.report.peers import Peers
from elastickv.schemas.config import Golden

Entries = list[plan_folder.Entry]


def verdicts(folder: Folder, entries: Entries) -> None:
    """Every case of the plan judged again; the thresholds are the plan's."""
    found = folder.record("verdicts.json")
    if found is None:
        return
    about = folder.findings.of("verdicts.json", "fields of verdicts")
    golden = folder.record(".plan/golden.json") if folder.has(".plan/golden.json") else None
    if golden:
        about.same("thresholds", found["thresholds"], golden)
    told, wanted = [entry["case"] for entry in found["cases"]], [entry.case for entry in entries]
    if not about.require(told == wanted, "cases", f"verdicts of {told}", f"of {wanted}, as planned"):
        return
    thresholds = Golden.model_validate(golden or found["thresholds"])
    for index, entry in enumerate(entries):
        with about.recomputing(f"cases.{index}"):
            expected = (
                verdict.judge(entry.record, thresholds)
                if entry.record
                else verdict.unreadable(entry.case, entry.problem, thresholds)
            )
            made = expected.model_dump()
            _entry(about, f"cases.{index} ({entry.case})", found["cases"][index], made, entry.record is None)


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
    beside = summary.peers_of(entries, folder.path)
    for cells, entry in zip(rows[1:], entries, strict=True):
        if about.require(len(cells) == len(columns), entry.case, f"{len(cells)} cells", f"{len(columns)}"):
            with about.recomputing(entry.case):
                _row(about, entry, beside, dict(zip(columns, cells, strict=True)))


def _row(about: About, entry: plan_folder.Entry, beside: Peers, cells: dict[str, str]) -> None:
    """One row: cells as text, numbers by their value. Why a record cannot be read may be worded by another path."""
    expected_cells = summary.row(entry, beside)
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
