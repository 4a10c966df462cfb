"""Reads a results folder by its plan: which cases there should be, and the record of each or why there is none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastickv import records


@dataclass(frozen=True)
class Entry:
    """A case of the plan with its measurement record, or with the `problem` that keeps it from being read."""

    case: str
    record: dict[str, Any] | None
    problem: str = ""


def case_ids(cases_file: Path | str) -> list[str]:
    """The ids of the plan, in order. Raises RecordError."""
    return records.read(cases_file, "cases")["cases"]


def entries(cases_file: Path | str, results: Path | str) -> list[Entry]:
    """The records of the plan's cases, in its order; a missing or broken one is an entry with a problem."""
    plan = Path(cases_file).parent
    return [_entry(case, plan, Path(results)) for case in case_ids(cases_file)]


def _entry(case: str, plan: Path, results: Path) -> Entry:
    path = results / f"results_{case}.json"
    if not path.exists():
        return Entry(case, None, "no record")
    try:
        record = records.read(path, "measurement")
    except records.RecordError as error:
        return Entry(case, None, f"unreadable record: {error}")
    if not _is_of(record, case, plan):
        return Entry(case, None, f"the record in {path.name} is of another case than the plan's")
    return Entry(case, record)


def _is_of(record: dict[str, Any], case: str, plan: Path) -> bool:
    """Whether a record measured what the plan calls `case` (as far as the plan's canonical case is there)."""
    planned = plan / "cases" / f"{case}.json"
    if not planned.exists():
        return record["case"]["id"] == case
    return record["case"] == json.loads(planned.read_text(encoding="utf-8"))


def optional(path: Path, schema_name: str) -> tuple[dict[str, Any] | None, str | None]:
    """A record that may be absent: (record, None), (None, problem) when broken, (None, None) when not there."""
    if not path.exists():
        return None, None
    try:
        return records.read(path, schema_name), None
    except records.RecordError as error:
        return None, str(error)
