"""`elastickv doctor`: checks whether this machine can run a config, with the command that fixes each problem.

One module per topic. `gather(needs, gpu)` inspects the machine and never raises because something is missing;
`checks(facts, needs)` is pure, so tests can pass it made-up facts.
"""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from importlib import import_module
from typing import Any

from elastickv import matrix, records
from elastickv.doctor import gpu as gpus
from elastickv.doctor.finding import Finding, note
from elastickv.doctor.needs import Needs, of_config
from elastickv.schemas.doctor import Doctor

THEMES = (
    "interpreter", "environment", "peers", "compilers", "gpu", "images", "cases", "memory", "storage", "load", "hub",
)  # fmt: skip
MISSING = 3
WIDTHS = {"found": 58, "fix": 52}


def run(args: argparse.Namespace) -> int:
    """Prints a table, or with `--json` one object. Returns 0 if the config can run here, else 3."""
    files = args.configfile or [matrix.CONFIG_DEFAULT]
    needs = of_config(matrix.load(files, args.config), args.configfile or [], args.config)
    findings = diagnose(needs)
    found = [dataclasses.asdict(finding) for finding in findings]
    report = Doctor(config=list(map(str, files)), ready=ready(findings), findings=found)
    records.check(records.content(report), "doctor", "elastickv doctor")
    print(
        records.to_json(records.content(report)) if args.json else f"{table(findings)}\n\n{summary(findings, files)}",
        end="",
    )
    if not args.json:
        print()
    return 0 if report.ready else MISSING


def diagnose(needs: Needs) -> list[Finding]:
    """The findings of every topic. A topic whose inspection fails becomes a note instead of ending the program."""
    findings, gpu = [], gpus.Facts()
    try:
        gpu = gpus.gather()
    except Exception as error:
        findings.append(dataclasses.replace(_unseen("gpu", error), theme="gpu"))
    for theme in THEMES:
        module = import_module(f"elastickv.doctor.{theme}")
        try:
            facts = gpu if module is gpus else module.gather(needs, gpu)
            found = module.checks(facts, needs)
        except Exception as error:
            found = [_unseen(theme, error)]
        findings += [dataclasses.replace(finding, theme=theme) for finding in found]
    return findings


def _unseen(theme: str, error: Exception) -> Finding:
    return note(theme, f"could not be checked: {type(error).__name__}: {error}")


def ready(findings: list[Finding]) -> bool:
    """Whether the machine has everything that the config needs."""
    return not any(finding.level == "problem" for finding in findings)


def table(findings: list[Finding]) -> str:
    """One row per finding; problems and notes include their fix."""
    from tabulate import tabulate

    rows = [
        [finding.level, finding.check, _folded(finding.found, "found"), _folded(finding.fix or "", "fix")]
        for finding in findings
    ]
    return tabulate(rows, ["", "check", "found", "fix"], disable_numparse=True, tablefmt="simple")


def _folded(text: str, column: str) -> str:
    return textwrap.fill(text, WIDTHS[column], break_long_words=False, break_on_hyphens=False)


def summary(findings: list[Finding], files: list[Any]) -> str:
    """The last line of the output."""
    problems = sum(finding.level == "problem" for finding in findings)
    what = " + ".join(map(str, files))
    if not problems:
        return f"{what} can run on this machine"
    return f"{what} cannot run on this machine: {problems} problem{'s' if problems > 1 else ''}, see the fixes above"
