"""The cases of a results folder, each with its record as the judge sees it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from elastickv import records
from elastickv.errors import UsageError
from elastickv.judge import folder as results_folder
from elastickv.judge import noise, verdict
from elastickv.schemas.config import Noise
from elastickv.schemas.measurement import Measurement
from elastickv.system import readable


class Case(NamedTuple):
    """A case of one folder, judged by the folder's noise limits. problem: why it cannot be compared, or None."""

    status: str
    problem: str | None
    record: Measurement | None


def cases_of(folder: Path) -> dict[str, Case]:
    """The cases with a record in a results folder, in the order of its plan.

    Raises UsageError if there are none; MachineError or UnreadableError if the folder or a record cannot be read.
    """
    found = (re.fullmatch(r"results_(.+)\.json", name) for name in readable.listing(folder))
    names = {match[1] for match in found if match}
    if not names:
        raise UsageError(f"{folder}: not a results folder: it has no results_<case>.json")
    planned, limits = _plan(folder)
    order = [name for name in planned if name in names] + sorted(names - set(planned))
    return {name: _case(folder, name, limits) for name in order}


def _plan(folder: Path) -> tuple[list[str], Noise]:
    """The ids in the order of the plan and its noise limits; without a usable plan, no ids and the default limits."""
    path, limits = results_folder.plan_file(folder), Noise()
    with contextlib.suppress(records.RecordError):
        limits = results_folder.noise_limits(results_folder.limits_file(folder))
    try:
        return results_folder.cases_of(path).cases, limits
    except records.UnreadableError:
        raise
    except records.RecordError as error:
        if os.path.lexists(path):
            print(f"elastickv: note: {error}: cases are shown in alphabetical order", file=sys.stderr)
        return [], limits


def _case(folder: Path, name: str, limits: Noise) -> Case:
    try:
        record = records.load(folder / f"results_{name}.json", Measurement)
    except records.UnreadableError:
        raise
    except records.RecordError as error:
        return Case("unreadable", f"unreadable: {error}", None)
    if record.case.root.id != name:
        return Case("unreadable", f"the record belongs to another case, {record.case.root.id}", None)
    record = noise.as_judged(record, limits)
    problem = verdict.invalidity(record)
    # Marked ok, but an answer is out of tolerance or its bounds are swapped: treated as failed.
    return Case("failed" if problem and record.status in noise.PUBLISHED else record.status, problem, record)
