"""Reads a results folder by its plan: the planned cases, and each case's record or the reason why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elastickv import records
from elastickv.records import Model
from elastickv.schemas.case import AnyCase, Case
from elastickv.schemas.cases import Cases
from elastickv.schemas.config import Noise
from elastickv.schemas.measurement import Measurement

COMES_BACK = "delete it and run again: finished measurements are restored from the record store"


@dataclass(frozen=True)
class Entry:
    """A case of the plan with its measurement record, or the `problem` that prevents reading it.

    content: the canonical case; None if neither the record nor the plan has it.
    """

    case: str
    record: Measurement | None
    problem: str = ""
    content: AnyCase | None = None


def case_ids(cases_file: Path | str) -> list[str]:
    """The case ids of the plan, in order. Raises RecordError."""
    return records.load(cases_file, Cases).cases


def sweep_of(cases_file: Path | str) -> dict[str, str]:
    """Maps the id of each case of a sweep to the sweep's name. Raises RecordError."""
    sweeps = records.load(cases_file, Cases).sweeps
    return {case: name for name, cases in sweeps.items() for case in cases}


def entries(cases_file: Path | str, results: Path | str) -> list[Entry]:
    """The records of the plan's cases, in its order; a missing or broken record becomes an entry with a problem.

    Raises RecordError if the plan or the folder does not exist, UnreadableError if the system refuses to read a record,
    whose contents may be valid.
    """
    if not Path(results).is_dir():
        fault = "is not a folder" if Path(results).exists() else "does not exist"
        raise records.RecordError(f"{results}: {fault}; give a results folder")
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
        problem = f"the record in {path.name} belongs to another case than planned ({COMES_BACK})"
        return Entry(case, None, problem, planned)
    return Entry(case, record, content=content)


def _planned(case: str, plan: Path) -> AnyCase | None:
    """The plan's canonical case, or None if its file is missing. Raises RecordError if it is broken."""
    path = plan / "cases" / f"{case}.json"
    return records.load(path, Case).root if path.exists() else None


def noise_limits(path: Path | str) -> Noise:
    """Reads the noise limits of a plan. Raises RecordError."""
    return Noise.model_validate(records.read(path, "noise"))


def optional(path: Path, model: type[Model]) -> tuple[Model | None, str | None]:
    """An optional record: (record, None), (None, problem) if it is broken, (None, None) if it is missing."""
    if not path.exists():
        return None, None
    try:
        return records.load(path, model), None
    except records.RecordError as error:
        return None, str(error)
