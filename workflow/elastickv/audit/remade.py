"""Generates tables and texts again with the code that wrote them, and compares them exactly.

With `of_commit.py`, which runs a commit's own code, this is the only module of `verify` that imports code that writes
folders. Equal texts show that nothing was edited, not that a figure is right: `judgement.py` checks verdicts
independently, and `tables.py` and `published.py` check the numbers of summary, report and posts.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.audit.finding import About
from elastickv.build import sources as source_files
from elastickv.judge import verdict as judge
from elastickv.judge.folder import Entry
from elastickv.report import markdown, social
from elastickv.report import notebook as notebooks
from elastickv.report import summary as summary_table
from elastickv.report.inputs import Inputs, load
from elastickv.schemas.config import Noise
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.verdict import Thresholds

__all__ = ["FIGURES", "Inputs", "figures", "load", "notebook", "posts", "report", "sources", "summary", "verdict"]

CHECKOUT = Path(__file__).resolve().parents[3]
FIGURES = ("svg", "png")


def verdict(record: Measurement, thresholds: dict[str, Any]) -> dict[str, Any]:
    """The verdict of a record, with its reasons."""
    return records.content(judge.judge(record, Thresholds.model_validate(thresholds)))


def summary(entries: list[Entry], results: Path, limits: dict[str, float]) -> str:
    """summary.csv."""
    by = Noise.model_validate(limits)
    beside = summary_table.peers_of(entries, results, by)
    return summary_table.to_csv([summary_table.row(entry, by, beside) for entry in entries])


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


def figures(cases_file: Path, results: Path, out: Path) -> None:
    """All figures, into the folder `out`."""
    from elastickv.report import figures as drawn

    drawn.run(argparse.Namespace(cases=cases_file, results=results, out=str(out)))


def notebook() -> str:
    """The notebook of this checkout's sources."""
    return notebooks.notebook(CHECKOUT)


@cache
def sources() -> str:
    """The hash of this checkout's sources."""
    return source_files.sha256(CHECKOUT)
