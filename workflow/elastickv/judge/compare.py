"""`elastickv compare OLD NEW`: regressions and improvements between two results folders.

Compares speedup and roofline of every case that both folders have. A change counts only if the two intervals do not
overlap and the values differ by more than the tolerance, because two runs of a case vary by more than their intervals.
"""

from __future__ import annotations

import argparse
import contextlib
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
from elastickv.judge import folder as results_folder
from elastickv.judge import noise, verdict
from elastickv.judge.verdict import Bounded
from elastickv.matrix.wording import shown
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


class Case(NamedTuple):
    """A case of one folder, judged by the folder's noise limits. problem: why it cannot be compared, or None."""

    status: str
    problem: str | None
    record: Measurement | None


Metric = tuple[Bounded, Bounded, str] | None  # old, new, outcome; None if one side has no value


@dataclass(frozen=True)
class Comparison:
    """compared: case -> its metrics. uncompared: case -> (reason, key of UNCOMPARED)."""

    compared: dict[str, dict[str, Metric]]
    uncompared: dict[str, tuple[str, str]]
    only_old: list[str]
    only_new: list[str]

    @property
    def failed(self) -> bool:
        """Whether a case regressed or has an unreadable record."""
        regressed = any(_worst(metrics) == "regressed" for metrics in self.compared.values())
        return regressed or any(kind != "not compared" for _, kind in self.uncompared.values())


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
    return 1 if comparison.failed else 0


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
    # Marked ok, but an answer is out of tolerance or the speedup exceeds its byte ceiling: treated as failed.
    return Case("failed" if problem and record.status in noise.PUBLISHED else record.status, problem, record)


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
    compared, uncompared = {}, {}
    for name in [case for case in new if case in old]:
        before, after = old[name], new[name]
        why = _why_not(before, after)
        if why:
            uncompared[name] = (why, _kind(before, after))
        else:
            was, now = metrics(before.record), metrics(after.record)
            compared[name] = {metric: judge(was[metric], now[metric], tolerance) for metric in was}
    only_old, only_new = [name for name in old if name not in new], [name for name in new if name not in old]
    return Comparison(compared, uncompared, only_old, only_new)


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


def metrics(record: Measurement) -> dict[str, Bounded | None]:
    """Speedup and the elastic arm's roofline with their intervals; None if not applicable."""
    speedup, efficiency = record.statistics.speedup, record.efficiency.elastic
    roofline = Bounded(efficiency.roofline, efficiency.roofline_low, efficiency.roofline_high)
    faster = Bounded(speedup.value, speedup.low, speedup.high)
    return {"speedup": faster, "roofline": None if None in roofline else roofline}


def judge(old: Bounded | None, new: Bounded | None, tolerance: float) -> Metric:
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
        rows = [
            [case, *_cells(found["speedup"], 1, "x", 3), *_cells(found["roofline"], 100, "%", 1)]
            for case, found in comparison.compared.items()
        ]
        lines += [tabulate(rows, HEADERS, disable_numparse=True, tablefmt="simple"), ""]
    lines += [f"{kind}: {case}: {why}" for case, (why, kind) in comparison.uncompared.items()]
    lines += [f"only in the old folder: {case}" for case in comparison.only_old]
    lines += [f"only in the new folder: {case}" for case in comparison.only_new]
    counts = Counter(_worst(found) for found in comparison.compared.values())
    counted = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    kinds = Counter(kind for _, kind in comparison.uncompared.values())
    counted += [f"{kinds[kind]} {words}" for kind, words in UNCOMPARED.items() if kinds[kind]]
    return [*lines, f"{', '.join(counted)} (tolerance {tolerance:.3g})"]


def _worst(found: dict[str, Metric]) -> str:
    """The first of OUTCOMES that any metric of the case has."""
    return min((metric[2] for metric in found.values() if metric), key=OUTCOMES.index)


def _cells(metric: Metric, scale: int, unit: str, digits: int) -> list[str]:
    if metric is None:
        return [NOTHING] * 4
    old, new, outcome = metric
    change = f"{new.value / old.value - 1:+.1%}" if old.value else NOTHING
    values = [[f"{scale * number:.{digits}f}" for number in interval] for interval in (old, new)]
    return [*(f"{value}{unit} [{low}, {high}]" for value, low, high in values), change, outcome]
