"""Checks the record store: its records like published ones, and that published records equal the stored ones."""

from __future__ import annotations

import json
import re
from typing import Any

from elastickv.audit.finding import Findings
from elastickv.audit.reading import STORE, Folder

KEPT = ("ok", "noisy")
Published = dict[str, dict[str, Any]]  # by file name


def records_of(folder: Folder) -> dict[str, tuple[str, dict[str, Any]]]:
    """Schema and record of every file of the store that can be read, by path in the folder."""
    found = {}
    for name in folder.names(f"{STORE}/*.json"):
        about = folder.findings.of(name)
        stem = name.rpartition("/")[2].removesuffix(".json")
        about.require(bool(re.fullmatch("[0-9a-f]{64}", stem)), "(name)", stem, "the sha256 of what was measured")
        schema, record = folder.stored(name)
        if record is not None:
            about.require(record["status"] in KEPT, "status", record["status"], f"one of {', '.join(KEPT)}")
            found[name] = (schema, record)
    return found


def check(findings: Findings, published: Published, stored: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """A published record that is also in the store (same case and start time) must be equal there.

    Peer records are excluded: published ones are combined from stored records of single cases.
    """
    twins = {_moment(schema, record): (name, record) for name, (schema, record) in stored.items() if schema != "peers"}
    for file, record in published.items():
        name, twin = twins.get(_moment(record["schema"].partition("/")[0], record), ("", None))
        if twin is None:
            continue
        content = {**twin, "case": {**twin["case"], "id": record["case"]["id"]}} if "case" in twin else twin
        findings.checked["compared with the store"] += 1
        if record != content:
            findings.of(file, "fields", f"as in {name}").same("", record, content)


def _moment(schema: str, record: dict[str, Any]) -> tuple[Any, ...]:
    case = {key: value for key, value in record.get("case", {}).items() if key != "id"}
    return schema, record["started"], record.get("engine"), json.dumps(case, sort_keys=True)
