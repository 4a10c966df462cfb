"""Reads a results folder by its plan: the planned cases, and each case's record or the reason why it has none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from elastickv import records
from elastickv.records import Model
from elastickv.schemas.base import given
from elastickv.schemas.case import AnyCase, Case, case_of
from elastickv.schemas.cases import Cases
from elastickv.schemas.config import Noise
from elastickv.schemas.manifest import Manifest
from elastickv.schemas.measurement import Measurement

MANIFEST = "manifest.json"
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


def plan_file(results: Path) -> Path:
    """What lists the cases of a results folder: the plan, or the manifest of a folder published without its plan."""
    planned = results / ".plan" / "cases.json"
    return planned if os.path.lexists(planned) or not (results / MANIFEST).exists() else results / MANIFEST


def limits_file(results: Path) -> Path:
    """What holds the noise limits of a results folder, as `plan_file`."""
    path = plan_file(results)
    return path if path.name == MANIFEST else path.with_name("noise.json")


def cases_of(cases_file: Path | str) -> Cases:
    """The case ids and sweeps of a plan, or of a manifest. Raises RecordError."""
    if Path(cases_file).name == MANIFEST:
        sweeps = given(records.load(cases_file, Manifest).sweeps) or {}
        return Cases(schema_="cases/2", cases=[*_planned(Path(cases_file))], sweeps=sweeps)
    return records.load(cases_file, Cases)


def sweep_of(cases_file: Path | str) -> dict[str, str]:
    """Maps the id of each case of a sweep to the sweep's name. Raises RecordError."""
    return {case: name for name, cases in cases_of(cases_file).sweeps.items() for case in cases}


def entries(cases_file: Path | str, results: Path | str) -> list[Entry]:
    """The records of the plan's cases, in its order; a missing or broken record becomes an entry with a problem.

    Raises RecordError if the plan or the folder does not exist, UnreadableError if the system refuses to read a record,
    whose contents may be valid.
    """
    if not Path(results).is_dir():
        fault = "is not a folder" if Path(results).exists() else "does not exist"
        raise records.RecordError(f"{results}: {fault}; give a results folder")
    planned = _planned(Path(cases_file))
    return [_entry(case, planned.get(case), Path(results)) for case in cases_of(cases_file).cases]


def _entry(case: str, planned: AnyCase | None, results: Path) -> Entry:
    path = results / f"results_{case}.json"
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


def _planned(cases_file: Path) -> dict[str, AnyCase]:
    """The canonical cases of a plan, or of a manifest, by id, if their file exists. Raises RecordError."""
    if cases_file.name == MANIFEST:
        listed = records.load(cases_file, Manifest).cases
        for content in listed:
            records.check(content, "case", str(cases_file))
        return {content["id"]: case_of(content) for content in listed}
    paths = {case: cases_file.parent / "cases" / f"{case}.json" for case in cases_of(cases_file).cases}
    return {case: records.load(path, Case).root for case, path in paths.items() if path.exists()}


def noise_limits(path: Path | str) -> Noise:
    """Reads the noise limits of a plan, or of a manifest. Raises RecordError."""
    if Path(path).name == MANIFEST:
        return Noise.model_validate((records.load(path, Manifest).config or {}).get("noise", {}))
    return Noise.model_validate(records.read(path, "noise"))


def optional(path: Path, model: type[Model]) -> tuple[Model | None, str | None]:
    """An optional record: (record, None), (None, problem) if it is broken, (None, None) if it is missing."""
    if not path.exists():
        return None, None
    try:
        return records.load(path, model), None
    except records.RecordError as error:
        return None, str(error)
