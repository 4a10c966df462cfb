"""`elastickv compare OLD NEW`: regressions and improvements between two results folders.

Judges the times of both arms, their ratio, and the same of the inference cycle, of every case that both folders have.
Processes that measure one case differ by more than any of their intervals, so their spread, pooled over the cases,
decides what is a change. Times are judged only between records of one GPU and power limit; else only ratios are.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elastickv import records
from elastickv.errors import UsageError
from elastickv.judge import changes, observed
from elastickv.judge.changes import Change, Judged
from elastickv.judge.folder_cases import Case, cases_of
from elastickv.matrix.wording import shown

OUTCOMES = ("regressed", "unclear", "improved", "explained", "same")
BROKEN = ("incorrect", "failed", "unreadable")
# Labels of the last line.
UNCOMPARED = {"regressed": "no longer right", "unreadable": "unreadable", "not compared": "not compared"}
HEADERS = ("case", "", "old", "new", "change", "99% interval", "tolerance", "")
FORMATS = {"text": "simple", "markdown": "github"}
# Keys that do not change what is measured: the bounds of the measurement, and the backend (the device shows it).
UNMEASURED = {"schema_", "id", "measure", "backend"}


@dataclass(frozen=True)
class Comparison:
    """compared: case -> its judged metrics by name. uncompared: case -> (reason, key of UNCOMPARED).

    ratios_only: cases whose times are not compared, because they are not of one GPU and power limit.
    """

    compared: dict[str, dict[str, Judged]]
    uncompared: dict[str, tuple[str, str]]
    only_old: list[str]
    only_new: list[str]
    ratios_only: list[str]

    @property
    def failed(self) -> bool:
        """Whether a case regressed or has an unreadable record."""
        regressed = any(_worst(metrics) == "regressed" for metrics in self.compared.values())
        return regressed or any(kind != "not compared" for _, kind in self.uncompared.values())


def run(args: argparse.Namespace) -> int:
    """Prints the table. Returns 1 if anything regressed or a record of a folder is broken."""
    check_tolerance(args.tolerance)
    old, new = (cases_of(Path(folder)) for folder in (args.old, args.new))
    again = cases_of(Path(args.confirm)) if args.confirm else None
    for folder, cases in ((args.new, new), (args.confirm, again)):
        if cases is None:
            continue
        if not set(old) & set(cases):
            raise UsageError(f"{args.old} and {folder} have no case in common: nothing to compare")
        if not args.across_devices:
            refuse_other_devices(old, cases)
    comparison = compare(old, new, args.tolerance)
    if again is not None:
        comparison = confirmed(comparison, compare(old, again, args.tolerance))
    print("\n".join(text(comparison, args.format)))
    return 1 if comparison.failed else 0


def check_tolerance(tolerance: float | str | None) -> None:
    """Raises UsageError unless it is None or a fraction."""
    text_given = isinstance(tolerance, str)
    if text_given or not (tolerance is None or (math.isfinite(tolerance) and 0 <= tolerance < 1)):
        this = shown(tolerance) if text_given else f"{tolerance:g}"
        raise UsageError(f"--tolerance: must be a fraction from 0 to below 1, not {this}")


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


def compare(old: dict[str, Case], new: dict[str, Case], tolerance: float | None) -> Comparison:
    """All cases of both folders: first those of the new folder, in its order. tolerance: None: by the spread."""
    pairs, uncompared = {}, {}
    for name in [case for case in new if case in old]:
        before, after = old[name], new[name]
        why = _why_not(before, after)
        if why:
            uncompared[name] = (why, _kind(before, after))
        else:
            pairs[name] = (before.record, after.record)
    changed = {name: observed.changes_of(*pair) for name, pair in pairs.items()}
    spreads = observed.spreads([record for pair in pairs.values() for record in pair])
    judged = changes.judge([change for metrics in changed.values() for change in metrics.values()], spreads, tolerance)
    found = iter(judged)
    compared = {name: explained({metric: next(found) for metric in metrics}) for name, metrics in changed.items()}
    only_old, only_new = [name for name in old if name not in new], [name for name in new if name not in old]
    ratios_only = [name for name, pair in pairs.items() if not observed.same_gpu(*pair)]
    return Comparison(compared, uncompared, only_old, only_new, ratios_only)


def explained(metrics: dict[str, Judged]) -> dict[str, Judged]:
    """A speedup that fell because the full cache became faster is no regression, the reverse is no improvement."""
    made = dict(metrics)
    for ratio, full in (("speedup", "full"), ("cycle speedup", "full cycle")):
        other = {"improved": "regressed", "regressed": "improved"}
        if ratio in made and full in made and made[ratio].outcome == other.get(made[full].outcome):
            made[ratio] = replace(made[ratio], outcome="explained")
    return made


def confirmed(first: Comparison, again: Comparison) -> Comparison:
    """A change of the first comparison counts only if the second, of a repeated measurement, has it too.

    Cases and metrics that the second does not have keep their outcome.
    """

    def repeated(case: str, metric: str, judged: Judged) -> Judged:
        other = again.compared.get(case, {}).get(metric)
        changed = judged.outcome in ("regressed", "improved")
        return replace(judged, outcome="unclear") if changed and other and other.outcome != judged.outcome else judged

    compared = {
        case: {metric: repeated(case, metric, judged) for metric, judged in metrics.items()}
        for case, metrics in first.compared.items()
    }
    return replace(first, compared=compared)


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


def text(comparison: Comparison, form: str = "text") -> list[str]:
    """The table, the cases that were not compared with reasons, and a summary line; or one JSON object."""
    if form == "json":
        return [records.to_json(_content(comparison)).rstrip()]
    from tabulate import tabulate

    lines = []
    if comparison.compared:
        rows = [
            [case if first else "", metric, *_cells(judged)]
            for case, metrics in comparison.compared.items()
            for first, (metric, judged) in zip([True] + [False] * len(metrics), metrics.items(), strict=False)
        ]
        lines += [tabulate(rows, HEADERS, disable_numparse=True, tablefmt=FORMATS[form]), ""]
    lines += [f"{kind}: {case}: {why}" for case, (why, kind) in comparison.uncompared.items()]
    lines += [f"only in the old folder: {case}" for case in comparison.only_old]
    lines += [f"only in the new folder: {case}" for case in comparison.only_new]
    if comparison.ratios_only:
        cases = ", ".join(comparison.ratios_only)
        lines.append(f"only ratios compared, since the records are not of one GPU and power limit: {cases}")
    counts = Counter(_worst(found) for found in comparison.compared.values())
    counted = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    kinds = Counter(kind for _, kind in comparison.uncompared.values())
    counted += [f"{kinds[kind]} {words}" for kind, words in UNCOMPARED.items() if kinds[kind]]
    return [*lines, ", ".join(counted)]


def _content(comparison: Comparison) -> records.Json:
    compared = {
        case: {metric: judged.content() for metric, judged in metrics.items()}
        for case, metrics in comparison.compared.items()
    }
    uncompared = {case: {"reason": why, "kind": kind} for case, (why, kind) in comparison.uncompared.items()}
    lists = {"only_old": comparison.only_old, "only_new": comparison.only_new, "ratios_only": comparison.ratios_only}
    return {"failed": comparison.failed, "compared": compared, "uncompared": uncompared, **lists}


def _worst(found: dict[str, Judged]) -> str:
    """The first of OUTCOMES that any metric of the case has."""
    return min((judged.outcome for judged in found.values()), key=OUTCOMES.index)


def _cells(judged: Judged) -> Sequence[str]:
    change: Change = judged.change
    form = "{:.3f}x" if change.kind == "ratio" else "{:.3f} us"
    values = [form.format(side.value) for side in (change.old, change.new)]
    interval = f"[{judged.low - 1:+.2%}, {judged.high - 1:+.2%}]"
    return [*values, f"{judged.factor - 1:+.2%}", interval, f"{judged.tolerance:.2%}", judged.outcome]
