"""`elastickv show`: prints the verdicts of a finished run as a table, and the path of its report."""

from __future__ import annotations

import argparse
import textwrap
from datetime import datetime
from pathlib import Path

from elastickv import matrix, records
from elastickv.errors import MachineError
from elastickv.judge import folder
from elastickv.measure.statistics import relative_half_width
from elastickv.report.text import plain, times_interval
from elastickv.schemas.base import at, given
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.verdict import Entry, Verdicts

REASON_WIDTH = 60
MOST_NAMES = 3
LEAST_LOAD = 0.1  # cores
BOUNDS = ("max_seconds", "reps")  # of `measure`
HEADERS = ["", "case", "verdict", "speedup", "sustained", "byte ceiling", "device", "reason"]


def run(args: argparse.Namespace) -> int:
    """Prints the verdict table of the config's results folder. Raises MachineError if no run has finished yet."""
    config = matrix.load(args.configfile or [matrix.CONFIG_DEFAULT], args.config)
    results = Path(config.results)
    verdicts = results / "verdicts.json"
    if args.if_finished and not (results / "manifest.json").exists():
        return 0
    if not verdicts.exists():
        from elastickv.doctor import needs

        fix = needs.of_config(config, args.configfile or [], args.config).make()
        raise MachineError(f"{verdicts} does not exist: no run has finished yet", fix)
    print(table(records.load(verdicts, Verdicts).cases))
    print("", *closing(measured(results), records.load(verdicts, Verdicts).cases), sep="\n")
    print(f"report: {results / 'report.md'}")
    return 0


def measured(results: Path) -> list[Measurement]:
    """The readable records of a results folder."""
    plan = folder.plan_file(results)
    return [entry.record for entry in folder.entries(plan, results) if entry.record] if plan.exists() else []


def closing(found: list[Measurement], verdicts: list[Entry]) -> list[str]:
    """How long the cases were measured, and what would narrow the intervals of which cases."""
    timed = [record for record in found if given(record.samples)]
    if not timed:
        return []
    lines = [f"{_counted(timed)} measured in {_duration(sum(map(_seconds, timed)))}."]
    for bound in BOUNDS:
        at_bound = [record for record in timed if given(record.resolved.stopped) == bound]
        if at_bound:
            most = max(getattr(record.case.root.measure, bound) for record in at_bound)
            more = f"SET=measure.{bound}={2 * most:g}"
            lines.append(f"{_names(at_bound)}: ended at measure.{bound}; {more} would narrow the interval.")
    apart = [record for record in timed if _processes_differ(record)]
    if apart:
        more = f"SET=measure.processes={max(record.resolved.processes for record in apart) + 2}"
        lines.append(f"{_names(apart)}: the processes differ by more than measure.precision; {more} would help.")
    status = {entry.case: entry.status for entry in verdicts}
    wide = [record for record in timed if status.get(record.case.root.id) in ("imprecise", "noisy")]
    if wide:
        busy = max(at(record, ("clocks", "after", "load", "others_cores")) or 0 for record in wide)
        others = f" (other processes used up to {busy:.1f} cores)" if busy >= LEAST_LOAD else ""
        lines.append(f"{_names(wide)}: imprecise or noisy; an idle machine{others} would narrow the controls.")
    return lines if len(lines) > 1 else [*lines, "Every interval is as narrow as measure.precision requires."]


def _processes_differ(record: Measurement) -> bool:
    """Whether the interval of several processes is wider than `precision`, at which each of them stopped by itself."""
    found = given(record.statistics) if given(record.processes) else None
    stopped = given(record.resolved.stopped) == "precision"
    return bool(found) and stopped and relative_half_width(found.speedup) > record.case.root.measure.precision


def _counted(timed: list[Measurement]) -> str:
    return f"{len(timed)} case{'s' if len(timed) > 1 else ''}"


def _names(timed: list[Measurement]) -> str:
    """Up to three ids, and the number of the others."""
    ids = [record.case.root.id for record in timed]
    left = len(ids) - MOST_NAMES
    return plain(", ".join(ids[:MOST_NAMES]) + (f" and {left} more" if left > 0 else ""))


def _seconds(record: Measurement) -> float:
    begin, end = (datetime.fromisoformat(time) for time in (record.started, record.ended))
    return (end - begin).total_seconds()


def _duration(seconds: float) -> str:
    """`3 min 12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def table(cases: list[Entry]) -> str:
    """A table of the entries of `verdicts.json`, one row each."""
    from tabulate import tabulate

    return tabulate([row(case) for case in cases], HEADERS, disable_numparse=True, tablefmt="simple")


def row(case: Entry) -> list[str]:
    """One verdict entry as text, in the order of HEADERS."""
    speedup, sustained = case.criteria.speedup, case.criteria.sustained
    return [
        case.mark,
        case.case,
        case.verdict,
        *(times_interval(one) if one.value is not None else "" for one in (speedup, sustained)),
        f"{case.byte_ceiling:.2f}x" if case.byte_ceiling else "",
        plain(case.device or ""),
        textwrap.fill(plain(case.reason), REASON_WIDTH),
    ]
