"""`elastickv show`: prints the verdicts of a finished run as a table, and the path of its report."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from elastickv import matrix, records
from elastickv.errors import MachineError
from elastickv.report.text import plain, times_interval
from elastickv.schemas.verdict import Entry, Verdicts

REASON_WIDTH = 60
HEADERS = ["", "case", "verdict", "speedup", "byte ceiling", "device", "reason"]


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
    print(f"\nreport: {results / 'report.md'}")
    return 0


def table(cases: list[Entry]) -> str:
    """A table of the entries of `verdicts.json`, one row each."""
    from tabulate import tabulate

    return tabulate([row(case) for case in cases], HEADERS, disable_numparse=True, tablefmt="simple")


def row(case: Entry) -> list[str]:
    """Mark, case, verdict, speedup with interval, byte ceiling, device and reason of one verdict entry, as text."""
    return [
        case.mark,
        case.case,
        case.verdict,
        times_interval(case.criteria.speedup) if case.criteria.speedup.value is not None else "",
        f"{case.byte_ceiling:.2f}x" if case.byte_ceiling else "",
        plain(case.device or ""),
        textwrap.fill(plain(case.reason), REASON_WIDTH),
    ]
