"""`elastickv report readme`: writes the results of a committed run between two markers in the README."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from elastickv import records
from elastickv.errors import UsageError
from elastickv.report import tables
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.text import NOTHING, escape, microseconds, times, times_interval
from elastickv.schemas.base import at, given

BEGIN = "<!-- results: written by `elastickv report readme`, a test compares them with the committed run -->"
END = "<!-- end of results -->"


def run(args: argparse.Namespace) -> int:
    """Rewrites the marked part of `args.out` from the results folder `args.results` by the plan `args.cases`.

    Raises UsageError if the file is not there or lacks the markers.
    """
    path = Path(args.out)
    if not path.is_file():
        raise UsageError(f"{path}: is not a file; name one with the lines {BEGIN} and {END}")
    link = os.path.relpath(args.results, path.parent)
    part = section(load(args.cases, args.results), link)
    records.write_text(path, replaced(path.read_text(encoding="utf-8"), part, str(path)))
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
    where = f"Everything behind it: [report]({link}/report.md), [records and manifest]({link}/)."
    return f"{head} {where}\n\n{tables.of(inputs.cases, _columns(inputs))}\n"


def _columns(inputs: Inputs) -> dict[str, Callable[[Case], str]]:
    def judged(case: Case) -> str:
        verdict = case.verdict
        return f"{verdict.mark} {verdict.verdict.replace('_', ' ')}" + (
            "" if case.publishable else f" ({verdict.status})"
        )

    columns = {
        "case": lambda case: f"`{case.id}`",
        "full cache": tables.published(lambda case: f"{microseconds(case.record.statistics.full.median_us)} us"),
        "elastic cache": tables.published(lambda case: f"{microseconds(case.record.statistics.elastic.median_us)} us"),
        "speedup": tables.published(lambda case: times_interval(case.record.statistics.speedup)),
        "byte ceiling": lambda case: times(case.verdict.byte_ceiling),
        "reachable": tables.published(lambda case: times(case.verdict.reachable_ceiling)),
        "verdict": judged,
    }
    peers = {"full cache / fastest peer": lambda case: _beside_peers(inputs, case)} if inputs.peers.found else {}
    return columns | peers


def _beside_peers(inputs: Inputs, case: Case) -> str:
    """The speedup of our full cache over the fastest peer, with the launch mode that the case used."""
    fastest = inputs.peers.fastest(case.id, "full", at(inputs.device, ("name",)))
    if fastest is None or not case.record:
        return NOTHING
    launch = given(case.record.resolved.launch) or "plain"
    return f"{fastest.shown(launch if fastest.ratio(launch) else 'plain')} `{fastest.peer}`"
