"""Checks `verdicts.json` and `summary.csv`: judges every case again and looks up every number in its record."""

from __future__ import annotations

import csv
import io

from elastickv.audit import judgement, noise, remade, tables
from elastickv.audit.plan import Plan
from elastickv.audit.reading import Folder
from elastickv.judge.folder import Entry


def verdicts(folder: Folder, plan: Plan, entries: list[Entry]) -> None:
    """Every case of the plan judged again: figures independently, reasons by the judge's own code.

    The reason of a case without a record contains a path, which differs between machines, and is not compared.
    """
    found = folder.record("verdicts.json")
    if found is None:
        return
    about = folder.findings.of("verdicts.json", "fields of verdicts")
    thresholds = plan.thresholds(found["thresholds"])
    about.same("thresholds", found["thresholds"], thresholds)
    stated, wanted = [entry["case"] for entry in found["cases"]], [entry.case for entry in entries]
    if not about.require(stated == wanted, "cases", f"verdicts of {stated}", f"of {wanted}, as planned"):
        return
    for index, (verdict, entry) in enumerate(zip(found["cases"], entries, strict=True)):
        where = f"cases.{index} ({entry.case})"
        with about.recomputing(where):
            if entry.record:
                record = folder.record(f"results_{entry.case}.json")
                expected, reasons = judgement.judge(record, thresholds), remade.verdict(entry.record, thresholds)
            else:
                expected, reasons = judgement.without_record(entry.case, thresholds), verdict
            expected["reason"] = reasons["reason"]
            for name, criterion in expected["criteria"].items():
                criterion["reason"] = reasons["criteria"][name]["reason"]
            about.same(where, verdict, expected)


def table(folder: Folder, plan: Plan, entries: list[Entry]) -> None:
    """summary.csv: every cell as the code that writes it gives it, and the numbers also from the records."""
    text, about = folder.text("summary.csv"), folder.findings.of("summary.csv", "cells of the summary")
    if text is None:
        return
    limits = plan.thresholds((folder.record("verdicts.json") or {}).get("thresholds", {}))["noise"]
    if limits is None:
        about.note("neither the plan nor verdicts.json has noise limits to judge it by: not checked")
        return
    with about.recomputing("(file)"):
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
        expected = csv.DictReader(io.StringIO(remade.summary(entries, folder.path, limits), newline=""))
        stated, wanted = [row.get("case") for row in rows], [entry.case for entry in entries]
        about.require(stated == wanted, "case", f"rows of {stated}", f"of {wanted}, as planned")
        if stated != wanted or not about.same("(header)", reader.fieldnames, expected.fieldnames):
            return
        for cells, wanted, entry in zip(rows, expected, entries, strict=True):
            # The problem of an unreadable record contains its path, which differs between machines.
            about.same(entry.case, cells if entry.record else cells | {"problem": wanted["problem"]}, wanted)
            record = folder.record(f"results_{entry.case}.json") if entry.record else None
            if record:
                with about.recomputing(entry.case):
                    peer = folder.record(f"peers_{cells['peer']}.json") if cells["peer"] else None
                    beside = tables.entry_of(peer and noise.judged_peer(peer, limits), entry.case)
                    tables.summary_row(about, cells, noise.judged(record, limits), beside)
