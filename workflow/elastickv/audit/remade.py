"""Tables and texts, written again by the code that writes them and compared to the letter.

The one module of `verify` that imports what wrote the folder. That two texts are equal shows that nothing was edited,
not that a figure is right: verdicts are judged without it (`judgement.py`), and each number of summary, report and
posts is looked up without it (`tables.py`, `published.py`).
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
    """What report and posts are made from. Raises RecordError."""
    return load(cases_file, results)


def reasons(about: About, where: str, found: dict[str, Any], record: Measurement, thresholds: dict[str, Any]) -> None:
    """The words of one verdict."""
    expected = verdict.judge(record, Thresholds.model_validate(thresholds))
    about.same(f"{where}.reason", found["reason"], expected.reason)
    for name, criterion in expected.criteria:
        about.same(f"{where}.criteria.{name}.reason", found["criteria"][name]["reason"], criterion.reason)


def summary(
    about: About, columns: list[str], rows: list[dict[str, str]], entries: Entries, results: Path, limits: Any
) -> bool:
    """Every cell of summary.csv; returns whether it has the columns that it should have.

    Why a record cannot be read names its path, which is another from elsewhere.
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
    told, wanted = (text.split("\n") for text in (found, markdown.report(inputs)))
    differ = [index for index, pair in enumerate(zip(told, wanted, strict=False)) if pair[0] != pair[1]]
    about.findings.checked[about.kind] += len(wanted)
    # With lines more or less all that follows is moved: the first difference is the one to name.
    for index in differ if len(told) == len(wanted) else differ[:1]:
        about.same(f"line {index + 1}", told[index], wanted[index])
    about.require(len(told) == len(wanted), "(lines)", len(told), len(wanted))


def posts(inputs: Inputs) -> dict[str, Any]:
    """The posts with the trace of their numbers."""
    return records.content(social.posts(inputs))
