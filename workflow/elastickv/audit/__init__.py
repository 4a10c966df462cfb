"""`elastickv verify DIR`: everything that a results folder says, checked against what it holds.

Hashes and plan, schemas, every derived figure from its raw samples, verdicts, tables, report and posts. What it
computes is written from the definitions, one module per theme, and shares no code with what wrote the records; tables
and texts are also written again from the records and compared (`remade.py`).
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from elastickv.audit.finding import Findings
from elastickv.errors import UsageError
from elastickv.system import readable

MOST_SHOWN = 50
SHOWN = ("records", "files hashed", "figures", "fields of verdicts", "cells of the summary", "published numbers traced")


def run(args: argparse.Namespace) -> int:
    """Prints what is wrong, or one line on what was checked; 1 when anything is wrong."""
    path = Path(args.folder)
    findings = verify(path)
    if args.json:
        print(json.dumps(as_json(path, findings), indent=1, ensure_ascii=False))
    else:
        print("\n".join(lines(path, findings)))
    return 1 if findings.faults else 0


def verify(path: Path) -> Findings:
    """Everything found in a results folder. UsageError when it is none, MachineError when it may not be listed."""
    from elastickv.audit import reading, whole

    if not reading.is_results_folder(readable.listing(path)):
        raise UsageError(f"{path}: not a results folder: no manifest.json, plan or records of a run in it")
    import numpy as np

    findings = Findings()
    with np.errstate(all="ignore"):  # what comes of absurd samples is compared like anything else
        try:
            whole.check(reading.Folder(path, findings))
        except OSError as error:  # of a file that could be opened when the folder was looked through
            name = os.path.relpath(error.filename or path, path)
            findings.of(name).fault("(file)", readable.reason(error), "a file that can be read")
    return findings


def lines(path: Path, findings: Findings) -> list[str]:
    """What is printed: notes, faults, and the last line that sums up."""
    told = [f"note: {note}" for note in findings.notes] + [str(fault) for fault in findings.faults[:MOST_SHOWN]]
    rest = len(findings.faults) - MOST_SHOWN
    if rest > 0:
        told.append(f"... and {rest} more (all of them with --json)")
    checked = ", ".join(f"{findings.checked[kind]} {kind}" for kind in SHOWN if findings.checked[kind])
    verdict = f"{len(findings.faults)} faults" if findings.faults else "clean"
    return [*told, f"{path}: {verdict}; checked: {checked or 'nothing: no record yet'}"]


def as_json(path: Path, findings: Findings) -> dict:
    """The same for programs."""
    return {
        "schema": "verified/1",
        "folder": str(path),
        "clean": not findings.faults,
        "faults": [asdict(fault) for fault in findings.faults],
        "notes": findings.notes,
        "checked": dict(findings.checked),
    }
