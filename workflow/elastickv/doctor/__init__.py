"""`elastickv doctor`: checks whether this machine can run a config, with the command that fixes each problem.

One module per topic. `gather(needs, gpu)` inspects the machine and never raises because something is missing;
`checks(facts, needs)` is pure, so tests can pass it made-up facts.
"""

from __future__ import annotations

import argparse
import dataclasses
from importlib import import_module

from elastickv import matrix, records
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import Finding, note
from elastickv.doctor.needs import Needs, of_config
from elastickv.schemas.doctor import THEMES, Doctor

MISSING = 3
WIDTHS = [None, None, 58, 52]  # of the table's columns


def run(args: argparse.Namespace) -> int:
    """Prints a table, or with `--json` one object. Returns 0 if the config can run here, else 3."""
    files = args.configfile or [matrix.CONFIG_DEFAULT]
    findings = diagnose(of_config(matrix.load(files, args.config), args.configfile or [], args.config))
    problems = sum(finding.level == "problem" for finding in findings)
    if args.json:
        found = [dataclasses.asdict(finding) for finding in findings]
        report = records.content(Doctor(config=list(map(str, files)), ready=not problems, findings=found))
        records.check(report, "doctor", "elastickv doctor")
        print(records.to_json(report), end="")
    else:
        what = " + ".join(map(str, files))
        cannot = f"cannot run on this machine: {problems} problem{'s' if problems > 1 else ''}, see the fixes above"
        print(f"{table(findings)}\n\n{what} {cannot if problems else 'can run on this machine'}")
    return MISSING if problems else 0


def diagnose(needs: Needs) -> list[Finding]:
    """The findings of every topic. A topic whose inspection fails becomes a note instead of ending the program."""
    gpu, findings = gpus.gather(), []
    for theme in THEMES:
        module = import_module(f"elastickv.doctor.{theme}")
        try:
            found = module.checks(gpu if module is gpus else module.gather(needs, gpu), needs)
        except Exception as error:
            found = [note(theme, f"could not be checked: {type(error).__name__}: {error}")]
        findings += [dataclasses.replace(finding, theme=theme) for finding in found]
    return findings


def table(findings: list[Finding]) -> str:
    """One row per finding; problems and notes include their fix."""
    from tabulate import tabulate

    rows = [[finding.level, finding.check, finding.found, finding.fix or ""] for finding in findings]
    options = {"break_long_words": False, "break_on_hyphens": False, "disable_numparse": True}
    return tabulate(rows, ["", "check", "found", "fix"], "simple", maxcolwidths=WIDTHS, **options)
