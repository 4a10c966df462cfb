"""`elastickv compare OLD NEW`: regressions and improvements between two results folders.

Compares speedup and roofline of every case that both folders have. A change counts only if the two intervals do not
overlap and the values differ by more than the tolerance, because two runs of a case vary by more than their intervals.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from elastickv import records
from elastickv.errors import UsageError
from elastickv.judge import noise, verdict
from elastickv.judge.folder import noise_limits
from elastickv.matrix.wording import shown
from elastickv.schemas.base import given
from elastickv.schemas.cases import Cases
from elastickv.schemas.config import Noise
from elastickv.schemas.measurement import Measurement
from elastickv.system import readable

OUTCOMES = ("regressed", "unclear", "improved", "same")
BROKEN = ("incorrect", "failed", "unreadable")
# Labels of the last line.
UNCOMPARED = {"regressed": "no longer right", "unreadable": "unreadable", "not compared": "not compared"}
HEADERS = ("case", "speedup, old", "speedup, new", "change", "", "roofline, old", "roofline, new", "change", "")
NOTHING = "–"
# Keys that do not change what is measured: the bounds of the measurement, and the backend (the device shows it).
UNMEASURED = {"schema_", "id", "measure", "backend"}


class Interval(NamedTuple):
    """A value with the bounds of its interval; without bounds (older records), both equal the value."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Case:
    """A case of one folder, judged by the folder's noise limits. problem: why it cannot be compared, or None."""

    id: str
    status: str
    problem: str | None
    record: Measurement | None


@dataclass(frozen=True)
class Compared:
    """A case with numbers in both folders: metric -> (old, new, outcome), None if one side has no value."""

    id: str
    metrics: dict[str, tuple[Interval, Interval, str] | None]

    @property
    def regressed(self) -> bool:
        return any(metric is not None and metric[2] == "regressed" for metric in self.metrics.values())


@dataclass(frozen=True)
class Comparison:
    """The whole comparison. uncompared: case -> (reason, key of UNCOMPARED)."""

    compared: list[Compared]
    uncompared: dict[str, tuple[str, str]]
    only_old: list[str]
    only_new: list[str]

    @property
    def found(self) -> list[str]:
        """The cases that fail the comparison: regressed, or with an unreadable record."""
        return [case.id for case in self.compared if case.regressed] + [
            case for case, (_, kind) in self.uncompared.items() if kind != "not compared"
        ]


def run(args: argparse.Namespace) -> int:
    """Prints the table. Returns 1 if anything regressed or a record of either folder is broken."""
    text_given = isinstance(args.tolerance, str)
    if text_given or not (math.isfinite(args.tolerance) and 0 <= args.tolerance < 1):
        this = shown(args.tolerance) if text_given else f"{args.tolerance:g}"
        raise UsageError(f"--tolerance: must be a fraction from 0 to below 1, not {this}")
    old, new = (cases_of(Path(folder)) for folder in (args.old, args.new))
    if not set(old) & set(new):
        raise UsageError(f"{args.old} and {args.new} have no case in common: nothing to compare")
    if not args.across_devices:
        refuse_other_devices(old, new)
    comparison = compare(old, new, args.tolerance)
    print("\n".join(text(comparison, args.tolerance)))
    return 1 if comparison.found else 0


def cases_of(folder: Path) -> dict[str, Case]:
    """The cases with a record in a results folder, in the order of its plan.

    Raises UsageError if there are none; MachineError or UnreadableError if the folder or a record cannot be read.
    """
    found = (re.fullmatch(r"results_(.+)\.json", name) for name in readable.listing(folder))
    names = {match[1] for match in found if match}
    if not names:
        raise UsageError(f"{folder}: not a results folder: it has no results_<case>.json")
    planned, limits = _planned(folder), _limits(folder)
    order = [name for name in planned if name in names] + sorted(names - set(planned))
    return {name: _case(folder, name, limits) for name in order}


def _planned(folder: Path) -> list[str]:
    """The ids in the order of the plan; empty, with a note if it is broken, if there is no usable plan."""
    path = folder / ".plan" / "cases.json"
    try:
        return records.load(path, Cases).cases
    except records.UnreadableError:
        raise
    except records.RecordError as error:
        if os.path.lexists(path):
            print(f"elastickv: note: {error}: cases are shown in alphabetical order", file=sys.stderr)
        return []


def _limits(folder: Path) -> Noise:
    """The noise limits of a folder's plan; the defaults if they cannot be read."""
    try:
        return noise_limits(folder / ".plan" / "noise.json")
    except records.RecordError:
        return Noise()


def _case(folder: Path, name: str, limits: Noise) -> Case:
    try:
        record = records.load(folder / f"results_{name}.json", Measurement)
    except records.UnreadableError:
        raise
    except records.RecordError as error:
        return Case(name, "unreadable", f"unreadable: {error}", None)
    if record.case.root.id != name:
        return Case(name, "unreadable", f"the record belongs to another case, {record.case.root.id}", None)
    record = noise.as_judged(record, limits)
    problem = verdict.invalidity(record)
    # Marked ok, but an answer is out of tolerance or the speedup exceeds its byte ceiling: treated as failed.
    status = "failed" if problem and record.status in noise.PUBLISHED else record.status
    return Case(name, status, problem, record)


def refuse_other_devices(old: dict[str, Case], new: dict[str, Case]) -> None:
    """Raises UsageError if a common case was measured on devices with different names."""
    for name, case in old.items():
        before, after = _device(case), _device(new[name]) if name in new else None
        if before and after and before != after:
            message = f"{name} was measured on {before} in the old folder, on {after} in the new one"
            raise UsageError(f"{message}: use --across-devices to compare them anyway")


def _device(case: Case) -> str | None:
    device = case.record.device if case.record else None
    return device.name if device else None


def compare(old: dict[str, Case], new: dict[str, Case], tolerance: float) -> Comparison:
    """All cases of both folders: first those of the new folder, in its order."""
    compared, uncompared = [], {}
    for name in [case for case in new if case in old]:
        before, after = old[name], new[name]
        why = _why_not(before, after)
        if why:
            uncompared[name] = (why, _kind(before, after))
        else:
            pairs = zip(metrics(before.record).items(), metrics(after.record).values(), strict=True)
            compared.append(Compared(name, {key: judge(was, now, tolerance) for (key, was), now in pairs}))
    return Comparison(
        compared=compared,
        uncompared=uncompared,
        only_old=[name for name in old if name not in new],
        only_new=[name for name in new if name not in old],
    )


def _kind(old: Case, new: Case) -> str:
    """The key of UNCOMPARED for two cases that cannot be compared."""
    if old.problem is None and new.status in BROKEN and not _changed(old, new):
        return "regressed"
    return "unreadable" if "unreadable" in (old.status, new.status) else "not compared"


def _why_not(old: Case, new: Case) -> str | None:
    """Why two cases with the same name cannot be compared, or None."""
    changed = _changed(old, new)
    if changed:
        return f"different cases with the same name: {', '.join(changed)} changed"
    if new.problem is not None:
        return f"{new.problem} (old: {old.problem if old.status == 'unreadable' else old.status})"
    return None if old.problem is None else f"ok now; old: {old.problem}"


def _changed(old: Case, new: Case) -> list[str]:
    """The keys in which two cases with the same name differ."""
    if old.record is None or new.record is None:
        return []
    was, now = old.record.case.root, new.record.case.root
    keys = sorted({*type(was).model_fields, *type(now).model_fields} - UNMEASURED)
    return [key for key in keys if getattr(was, key, None) != getattr(now, key, None)]


def metrics(record: Measurement) -> dict[str, Interval | None]:
    """Speedup and the elastic arm's roofline with their intervals; None if not applicable."""
    speedup, efficiency = record.statistics.speedup, record.efficiency.elastic
    share, roofline = efficiency.roofline, None
    if share is not None:
        bounds = (given(bound) for bound in (efficiency.roofline_low, efficiency.roofline_high))
        roofline = Interval(share, *(share if bound is None else bound for bound in bounds))
    return {"speedup": Interval(speedup.value, speedup.low, speedup.high), "roofline": roofline}


def judge(old: Interval | None, new: Interval | None, tolerance: float) -> tuple[Interval, Interval, str] | None:
    """(old, new, outcome); None if one side has no value.

    regressed, improved: the values differ by more than the tolerance and the intervals do not overlap. same: the values
    differ by at most the tolerance. unclear: they differ by more, but the intervals overlap.
    """
    if old is None or new is None:
        return None
    change = new.value / old.value - 1 if old.value else 0.0
    if abs(change) <= tolerance * (1 + 1e-9):  # 1.00 to 0.98 is within a tolerance of 2%
        return old, new, "same"
    if change < 0 and new.high < old.low:
        return old, new, "regressed"
    if change > 0 and new.low > old.high:
        return old, new, "improved"
    return old, new, "unclear"


def text(comparison: Comparison, tolerance: float) -> list[str]:
    """The table, the cases that were not compared with reasons, and a summary line."""
    from tabulate import tabulate

    lines = []
    if comparison.compared:
        rows = [_row(case) for case in comparison.compared]
        lines += [tabulate(rows, HEADERS, disable_numparse=True, tablefmt="simple"), ""]
    lines += [f"{kind}: {case}: {why}" for case, (why, kind) in comparison.uncompared.items()]
    lines += [f"only in the old folder: {case}" for case in comparison.only_old]
    lines += [f"only in the new folder: {case}" for case in comparison.only_new]
    counts = Counter(_worst(case) for case in comparison.compared)
    counted = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    kinds = Counter(kind for _, kind in comparison.uncompared.values())
    counted += [f"{kinds[kind]} {words}" for kind, words in UNCOMPARED.items() if kinds[kind]]
    return [*lines, f"{', '.join(counted)} (tolerance {tolerance:.3g})"]


def _worst(case: Compared) -> str:
    """The first of OUTCOMES that any metric of the case has."""
    found = {metric[2] for metric in case.metrics.values() if metric is not None}
    return next(outcome for outcome in OUTCOMES if outcome in found)


def _row(case: Compared) -> list[str]:
    return [case.id, *_cells(case.metrics["speedup"], 1, "x", 3), *_cells(case.metrics["roofline"], 100, "%", 1)]


def _cells(metric: tuple[Interval, Interval, str] | None, scale: int, unit: str, digits: int) -> list[str]:
    if metric is None:
        return [NOTHING] * 4
    old, new, outcome = metric
    change = f"{new.value / old.value - 1:+.1%}" if old.value else NOTHING
    return [*(_number(interval, scale, unit, digits) for interval in (old, new)), change, outcome]


def _number(interval: Interval, scale: int, unit: str, digits: int) -> str:
    value, low, high = (f"{scale * number:.{digits}f}" for number in interval)
    return f"{value}{unit} [{low}, {high}]"
