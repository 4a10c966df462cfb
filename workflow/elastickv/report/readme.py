"""`elastickv report readme`: writes the results of a committed run between two markers in the README."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from elastickv import records
from elastickv.errors import UsageError
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.tables import table
from elastickv.report.text import NOTHING, escape, microseconds, times, times_interval
from elastickv.schemas.base import at, given
from elastickv.system import readable

BEGIN = "<!-- results: written by `elastickv report readme`, a test compares them with the committed run -->"
END = "<!-- end of results -->"
HEADERS = ["case", "full cache", "elastic cache", "speedup", "byte ceiling", "reachable", "verdict"]


def run(args: argparse.Namespace) -> int:
    """Rewrites the marked part of `args.out` from the results folder `args.results` by the plan `args.cases`.

    Raises UsageError if it is not a text file or lacks the markers, MachineError if it cannot be read.
    """
    path = Path(args.out)
    try:
        text = path.read_text(encoding="utf-8")
    except PermissionError as error:
        raise readable.cannot_read(path, error) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}; name a file with the lines {BEGIN} and {END}") from error
    link = os.path.relpath(args.results, path.parent)
    records.write_text(path, replaced(text, section(load(args.cases, args.results), link), str(path)))
    return 0


def replaced(text: str, part: str, name: str) -> str:
    """`text` with `part` between its markers. Raises UsageError if it lacks them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{name}: lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def section(inputs: Inputs, link: str) -> str:
    """Device, date, one row per case, and a link to the whole report (`link`: relative to the README)."""
    name, driver = (at(inputs.device, (fact,)) for fact in ("name", "driver"))
    days = sorted(case.record.ended[:10] for case in inputs.cases if case.record)
    device = f"**{escape(name or 'no device')}**" + (f", driver {escape(driver)}" if driver else "")
    head = f"Measured on {device}, {days[-1] if days else 'never'}."
    rows, headers = [_row(case) for case in inputs.cases], list(HEADERS)
    if inputs.peers.found:
        headers.append("full cache / fastest peer")
        rows = [[*row, _beside_peers(inputs, case)] for row, case in zip(rows, inputs.cases, strict=True)]
    where = f"Everything behind it: [report]({link}/report.md), [records and manifest]({link}/)."
    return f"{head} {where}\n\n{table(rows, headers)}\n"


def _beside_peers(inputs: Inputs, case: Case) -> str:
    """The speedup of our full cache over the fastest peer, with the launch mode that the case used."""
    fastest = inputs.peers.fastest(case.id, "full", at(inputs.device, ("name",)))
    if fastest is None or not case.record:
        return NOTHING
    launch = given(case.record.resolved.launch) or "plain"
    return f"{fastest.shown(launch if fastest.ratio(launch) else 'plain')} `{fastest.peer}`"


def _row(case: Case) -> list[str]:
    verdict = case.verdict
    judged, ceiling = f"{verdict.mark} {verdict.verdict.replace('_', ' ')}", times(verdict.byte_ceiling)
    if not case.publishable:
        return [f"`{case.id}`", NOTHING, NOTHING, NOTHING, ceiling, NOTHING, f"{judged} ({verdict.status})"]
    measured = case.record.statistics
    return [
        f"`{case.id}`",
        *(f"{microseconds(arm.median_us)} us" for arm in (measured.full, measured.elastic)),
        times_interval(measured.speedup),
        ceiling,
        times(verdict.reachable_ceiling),
        judged,
    ]
