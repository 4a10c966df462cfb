"""Reads a results folder by its plan: which cases there should be, and the record of each or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elastickv import records
from elastickv.records import Model
from elastickv.schemas.case import AnyCase, Case
from elastickv.schemas.cases import Cases
from elastickv.schemas.config import Noise
from elastickv.schemas.measurement import Measurement

COMES_BACK = "delete it and run again: what was measured comes back from the record store"


@dataclass(frozen=True)
class Entry:
    """A case of the plan with its measurement record, or with the `problem` that keeps it from being read.

    `content`: the case, None where neither record nor plan tell.
    """

    case: str
    record: Measurement | None
    problem: str = ""
    content: AnyCase | None = None


def case_ids(cases_file: Path | str) -> list[str]:
    """The ids of the plan, in order. Raises RecordError."""
    return records.load(cases_file, Cases).cases


def sweep_of(cases_file: Path | str) -> dict[str, str]:
    """Id of each case that a sweep of the matrix became -> the sweep's name. Raises RecordError."""
    sweeps = records.load(cases_file, Cases).sweeps
    return {case: name for name, cases in sweeps.items() for case in cases}


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
        record = records.load(path, Measurement)
    except records.OtherVersion as error:
        return Entry(case, None, f"unreadable record: {error}", planned)
    except records.UnreadableError:
        raise
    except records.RecordError as error:
        return Entry(case, None, f"unreadable record: {error} ({COMES_BACK})", planned)
    content = record.case.root
    if content != planned if planned else content.id != case:
        problem = f"the record in {path.name} is of another case than the plan's ({COMES_BACK})"
        return Entry(case, None, problem, planned)
    return Entry(case, record, content=content)


def _planned(case: str, plan: Path) -> AnyCase | None:
    """The plan's canonical case, or None where its file is not there. Raises RecordError when it is broken."""
    path = plan / "cases" / f"{case}.json"
    return records.load(path, Case).root if path.exists() else None


def noise_limits(path: Path | str) -> Noise:
    """The noise limits in a file of the plan. Raises RecordError."""
    return Noise.model_validate(records.read(path, "noise"))


def optional(path: Path, model: type[Model]) -> tuple[Model | None, str | None]:
    """A record that may be absent: (record, None), (None, problem) when broken, (None, None) when not there."""
    if not path.exists():
        return None, None
    try:
        return records.load(path, model), None
    except records.RecordError as error:
        return None, str(error)
