"""Reads a results folder by its plan: which cases there should be, and the record of each or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.schemas.case import AnyCase, case_of
from elastickv.schemas.cases import Cases

COMES_BACK = "delete it and run again: what was measured comes back from the record store"


@dataclass(frozen=True)
class Entry:
    """A case of the plan with its measurement record, or with the `problem` that keeps it from being read.

    `content`: the case, None where neither record nor plan tell.
    """

    case: str
    record: dict[str, Any] | None
    problem: str = ""
    content: AnyCase | None = None


def case_ids(cases_file: Path | str) -> list[str]:
    """The ids of the plan, in order. Raises RecordError."""
    return _cases(cases_file).cases


def sweep_of(cases_file: Path | str) -> dict[str, str]:
    """Id of each case that a sweep of the matrix became -> the sweep's name. Raises RecordError."""
    return {case: name for name, cases in _cases(cases_file).sweeps.items() for case in cases}


def _cases(cases_file: Path | str) -> Cases:
    return Cases.model_validate(records.read(cases_file, "cases"))


def entries(cases_file: Path | str, results: Path | str) -> list[Entry]:
    """The records of the plan's cases, in its order; a missing or broken one is an entry with a problem.

    Raises RecordError when there is no such plan or no such folder, UnreadableError when the system refuses to read one
    of the records: what it holds is not known to be wrong.
    """
    if not Path(results).is_dir():
        told = "is not a folder" if Path(results).exists() else "does not exist"
        raise records.RecordError(f"{results}: {told}; a results folder is needed")
    plan = Path(cases_file).parent
    return [_entry(case, plan, Path(results)) for case in case_ids(cases_file)]


def _entry(case: str, plan: Path, results: Path) -> Entry:
    path = results / f"results_{case}.json"
    planned = _planned(case, plan)
    if not path.exists():
        return Entry(case, None, "no record", planned)
    try:
        record = records.read(path, "measurement")
    except records.OtherVersion as error:
        return Entry(case, None, f"unreadable record: {error}", planned)
    except records.UnreadableError:
        raise
    except records.RecordError as error:
        return Entry(case, None, f"unreadable record: {error} ({COMES_BACK})", planned)
    content = case_of(record["case"])
    if content != planned if planned else content.id != case:
        problem = f"the record in {path.name} is of another case than the plan's ({COMES_BACK})"
        return Entry(case, None, problem, planned)
    return Entry(case, record, content=content)


def _planned(case: str, plan: Path) -> AnyCase | None:
    """The plan's case, or None where its file is not there. Raises RecordError when it is broken."""
    path = plan / "cases" / f"{case}.json"
    return case_of(records.read(path, "case")) if path.exists() else None


def optional(path: Path, schema_name: str) -> tuple[dict[str, Any] | None, str | None]:
    """A record that may be absent: (record, None), (None, problem) when broken, (None, None) when not there."""
    if not path.exists():
        return None, None
    try:
        return records.read(path, schema_name), None
    except records.RecordError as error:
        return None, str(error)
