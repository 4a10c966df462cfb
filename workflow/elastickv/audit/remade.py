"""Generates tables and texts again with the code that wrote them, and compares them exactly.

This is the only module of `verify` that imports the code that wrote the folder. Equal texts show that nothing was
edited, not that a figure is right: `judgement.py` checks verdicts independently, and `tables.py` and `published.py`
check the numbers of summary, report and posts.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.audit.finding import About
from elastickv.judge import folder as plan_folder
from elastickv.judge import verdict
from elastickv.report import markdown, social
from elastickv.report import summary as summary_table
from elastickv.report.inputs import Inputs, load
from elastickv.schemas.config import Noise
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.verdict import Thresholds

Entries = list[plan_folder.Entry]


def inputs(cases_file: Path, results: Path) -> Inputs:
    """The inputs of report and posts. Raises RecordError."""
    return load(cases_file, results)


def reasons(about: About, where: str, found: dict[str, Any], record: Measurement, thresholds: dict[str, Any]) -> None:
    """The reasons of one verdict."""
    expected = verdict.judge(record, Thresholds.model_validate(thresholds))
    about.same(f"{where}.reason", found["reason"], expected.reason)
    for name, criterion in expected.criteria:
        about.same(f"{where}.criteria.{name}.reason", found["criteria"][name]["reason"], criterion.reason)


def summary(
    about: About, columns: list[str], rows: list[dict[str, str]], entries: Entries, results: Path, limits: Any
) -> bool:
    """Every cell of summary.csv; returns whether it has the expected columns.

    The problem of an unreadable record contains its path, which differs between machines, and is not compared.
    """
    by = Noise.model_validate(limits)
    beside = summary_table.peers_of(entries, results, by)
    text = summary_table.to_csv([summary_table.row(entry, by, beside) for entry in entries])
    expected = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if not about.same("(header)", columns, list(expected.fieldnames)):
        return False
    for found, wanted, entry in zip(rows, expected, entries, strict=True):
        about.same(entry.case, found if entry.record else found | {"problem": wanted["problem"]}, wanted)
    return True


def report(about: About, found: str, inputs: Inputs) -> None:
    """report.md, line by line."""
    stated, wanted = (text.split("\n") for text in (found, markdown.report(inputs)))
    differ = [index for index, pair in enumerate(zip(stated, wanted, strict=False)) if pair[0] != pair[1]]
    about.findings.checked[about.kind] += len(wanted)
    # If the number of lines differs, all later lines are shifted: only the first difference is reported.
    for index in differ if len(stated) == len(wanted) else differ[:1]:
        about.same(f"line {index + 1}", stated[index], wanted[index])
    about.require(len(stated) == len(wanted), "(lines)", len(stated), len(wanted))


def posts(inputs: Inputs) -> dict[str, Any]:
    """The posts with the trace of their numbers."""
    return records.content(social.posts(inputs))
