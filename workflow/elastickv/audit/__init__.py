"""`elastickv verify DIR`: checks that a results folder is consistent.

It checks hashes, plan, schemas, every figure derived from raw samples, verdicts, tables, report and posts. The figures
are recomputed from their definitions, one module per topic, without code that wrote the records. Tables and texts are
also generated again from the records and compared (`remade.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from elastickv.audit.finding import Findings
from elastickv.errors import UsageError
from elastickv.system import readable

MOST_SHOWN = 50
SHOWN = (
    "records",
    "files hashed",
    "figures",
    "fields of verdicts",
    "cells of the summary",
    "published numbers traced",
    "provenances",
    "fingerprints",
)


def run(args: argparse.Namespace) -> int:
    """Prints the faults, or one line on what was checked. Returns 1 if there are faults."""
    path = Path(args.folder)
    findings = verify(path, args.unfinished, args.against)
    hash_of_all = fingerprint(path) if args.fingerprint and not findings.faults else None
    if args.json:
        print(json.dumps(as_json(path, findings) | {"fingerprint": hash_of_all}, indent=1, ensure_ascii=False))
    elif hash_of_all:
        for note in findings.notes:
            print(f"note: {note}", file=sys.stderr)
        print(hash_of_all)
    else:
        print("\n".join(lines(path, findings)))
    return 1 if findings.faults else 0


def verify(path: Path, unfinished: bool = False, against: str | None = None) -> Findings:
    """All findings in a results folder. unfinished: a missing manifest is no fault. against: a commit to compare with.

    Raises UsageError if it is no results folder, MachineError if it cannot be listed; see also `against.check`.
    """
    from elastickv.audit import against as commits
    from elastickv.audit import reading, whole

    if not reading.is_results_folder(readable.listing(path)):
        raise UsageError(f"{path}: not a results folder: no manifest.json, plan or records of a run in it")
    import numpy as np

    findings = Findings()
    folder = reading.Folder(path, findings)
    if against is not None:
        commits.check(folder, against)
    with np.errstate(all="ignore"):  # results of absurd samples are compared like any others
        try:
            whole.check(folder, unfinished)
        except OSError as error:  # the file was readable when the folder was opened
            name = os.path.relpath(error.filename or path, path)
            findings.of(name).fault("(file)", readable.reason(error), "a file that can be read")
    return findings


def fingerprint(path: Path) -> str | None:
    """One hash of a folder that was found consistent; None of an unfinished run, which has no manifest."""
    from elastickv import records
    from elastickv.audit import identity

    manifest = path / "manifest.json"
    return identity.of(records.read(manifest, "manifest")) if manifest.exists() else None


def lines(path: Path, findings: Findings) -> list[str]:
    """The printed lines: notes, faults and a summary."""
    stated = [f"note: {note}" for note in findings.notes] + [str(fault) for fault in findings.faults[:MOST_SHOWN]]
    rest = len(findings.faults) - MOST_SHOWN
    if rest > 0:
        stated.append(f"... and {rest} more (all of them with --json)")
    checked = ", ".join(f"{findings.checked[kind]} {kind}" for kind in SHOWN if findings.checked[kind])
    verdict = f"{len(findings.faults)} faults" if findings.faults else "clean"
    return [*stated, f"{path}: {verdict}; checked: {checked or 'nothing: no record yet'}"]


def as_json(path: Path, findings: Findings) -> dict:
    """The findings as JSON."""
    return {
        "schema": "verified/1",
        "folder": str(path),
        "clean": not findings.faults,
        "faults": [asdict(fault) for fault in findings.faults],
        "notes": findings.notes,
        "checked": dict(findings.checked),
    }
